//! Rules, built from left to right as `nft` reads them: matches first, then what to do.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::netlink::{Attributes, octets};
use crate::nft::set::{Element, Key, MapKind, Set};
use crate::pods::Protocol;

/// The first three of the sixteen four-byte registers; the first by its older name, which all of `iptables-nft` knows.
const REG: u32 = 1;
const SECOND_REG: u32 = 9;
const THIRD_REG: u32 = 10;
/// After an IPv6 address, which takes four.
const FIFTH_REG: u32 = 12;
const REG_VERDICT: u32 = 0;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)` and `…(IP_CT_RELATED)`.
const STATE_ESTABLISHED_RELATED: u32 = 0x2 | 0x4;
const STATE_NEW: u32 = 0x8;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 0x20;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFTA_FIB_F_DADDR`.
const DESTINATION: u32 = 1 << 1;
/// `RTN_LOCAL`.
const ADDRESS_LOCAL: u32 = 2;
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
const NAT_DNAT: u32 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: no two masqueraded connections race for one port.
const RANDOM_FULLY: u32 = 0x10;
const ICMP_PORT_UNREACHABLE: u8 = 3;
const IFNAMSIZ: usize = 16;

#[derive(Clone, Copy)]
#[repr(i32)]
enum Verdict {
    Drop = 0,
    Accept = 1,
    Jump = -3,
    Goto = -4,
}

/// A part of a packet that a set's or map's key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    SourceAddress,
    DestinationAddress,
    /// Of IPv6, as is the next.
    SourceAddress6,
    DestinationAddress6,
    /// TCP, UDP or SCTP.
    Protocol,
    DestinationPort,
    /// The name of the link that the packet came in on; on a bridge's port, that is the bridge.
    InputLink,
    OutputLink,
}

impl Field {
    /// In bytes.
    pub(super) fn len(self) -> u32 {
        match self {
            Self::SourceAddress | Self::DestinationAddress => 4,
            Self::SourceAddress6 | Self::DestinationAddress6 | Self::InputLink | Self::OutputLink => 16,
            Self::Protocol => 1,
            Self::DestinationPort => 2,
        }
    }

    fn source_of(net: &IpNet) -> Self {
        if net.addr().is_ipv4() { Self::SourceAddress } else { Self::SourceAddress6 }
    }

    fn destination_of(net: &IpNet) -> Self {
        if net.addr().is_ipv4() { Self::DestinationAddress } else { Self::DestinationAddress6 }
    }
}

/// A rule being built. A match that fails ends it.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    expressions: Attributes,
    comment: Option<String>,
    sets: Vec<(Set, Vec<Element>)>,
}

impl Rule {
    pub fn new() -> Self {
        Self::default()
    }

    /// Shown by `nft list`, and found again by [`super::rules`]. At most 127 bytes.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    pub fn source_in(self, net: impl Into<IpNet>) -> Self {
        let net = net.into();
        self.load(Field::source_of(&net), REG).compare_net(CMP_EQ, net)
    }

    pub fn source_not_in(self, net: impl Into<IpNet>) -> Self {
        let net = net.into();
        self.load(Field::source_of(&net), REG).compare_net(CMP_NEQ, net)
    }

    pub fn destination_in(self, net: impl Into<IpNet>) -> Self {
        let net = net.into();
        self.load(Field::destination_of(&net), REG).compare_net(CMP_EQ, net)
    }

    pub fn destination_not_in(self, net: impl Into<IpNet>) -> Self {
        let net = net.into();
        self.load(Field::destination_of(&net), REG).compare_net(CMP_NEQ, net)
    }

    /// The node has the source address itself.
    pub fn source_local(self) -> Self {
        const SOURCE: u32 = 1;
        self.address_type(SOURCE).compare(CMP_EQ, &ADDRESS_LOCAL.to_ne_bytes())
    }

    /// The node has the destination address itself.
    pub fn destination_local(self) -> Self {
        self.address_type(DESTINATION).compare(CMP_EQ, &ADDRESS_LOCAL.to_ne_bytes())
    }

    pub fn destination_not_local(self) -> Self {
        self.address_type(DESTINATION).compare(CMP_NEQ, &ADDRESS_LOCAL.to_ne_bytes())
    }

    /// Came in on the link; on a bridge's port, that is the bridge.
    pub fn input(self, link: &str) -> Self {
        self.meta(META_IIFNAME).compare(CMP_EQ, &link_name(link))
    }

    pub fn output(self, link: &str) -> Self {
        self.meta(META_OIFNAME).compare(CMP_EQ, &link_name(link))
    }

    pub fn not_output(self, link: &str) -> Self {
        self.meta(META_OIFNAME).compare(CMP_NEQ, &link_name(link))
    }

    pub fn protocol(self, protocol: Protocol) -> Self {
        self.load(Field::Protocol, REG).compare(CMP_EQ, &[protocol.number()])
    }

    pub fn destination_port(self, port: u16) -> Self {
        self.load(Field::DestinationPort, REG).compare(CMP_EQ, &port.to_be_bytes())
    }

    /// The first packet of a connection.
    pub fn new_connection(self) -> Self {
        self.conntrack(CT_STATE, STATE_NEW)
    }

    pub fn established(self) -> Self {
        self.conntrack(CT_STATE, STATE_ESTABLISHED_RELATED)
    }

    /// The connection's destination was translated.
    pub fn translated(self) -> Self {
        self.conntrack(CT_STATUS, STATUS_DNAT)
    }

    /// All bits of `bits` are set in the packet's mark.
    pub fn marked(self, bits: u32) -> Self {
        self.meta(META_MARK).bitwise(bits, 0).compare(CMP_EQ, &bits.to_ne_bytes())
    }

    pub fn mark(self, bits: u32) -> Self {
        self.meta(META_MARK).bitwise(!bits, bits).store_mark()
    }

    pub fn unmark(self, bits: u32) -> Self {
        self.meta(META_MARK).bitwise(!bits, 0).store_mark()
    }

    /// The fields are a key of the set.
    pub fn in_set(self, fields: &[Field], set: &str) -> Self {
        self.load_all(fields).expression("lookup", Attributes::new().text(1, set).be32(2, REG))
    }

    /// Goes on in the chain that the map has for the fields; a key that isn't there ends the rule.
    pub fn verdict_of(self, fields: &[Field], map: &str) -> Self {
        let lookup = Attributes::new().text(1, map).be32(2, REG).be32(3, REG_VERDICT);
        self.load_all(fields).expression("lookup", lookup)
    }

    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept, None)
    }

    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop, None)
    }

    /// Goes on in `chain` and comes back.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump, Some(chain))
    }

    /// Goes on in `chain` and doesn't come back.
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto, Some(chain))
    }

    pub fn count(self) -> Self {
        self.expression("counter", Attributes::new())
    }

    /// Answers `icmp port-unreachable`: the client sees "connection refused".
    pub fn reject(self) -> Self {
        self.expression("reject", Attributes::new().be32(1, 0).u8(2, ICMP_PORT_UNREACHABLE))
    }

    /// The packet leaves with an address of this node.
    pub fn masquerade(self) -> Self {
        self.expression("masq", Attributes::new().be32(1, RANDOM_FULLY))
    }

    /// Sends the connection to one of the endpoints at random. At least one endpoint is needed.
    pub fn translate_to(self, endpoints: &[(Ipv4Addr, u16)]) -> Self {
        self.pick(endpoints).translate()
    }

    /// Sends the connection where the map to endpoints says; a packet that is no key of it ends the rule.
    pub fn translate_by(self, map: &Set) -> Self {
        let lookup = Attributes::new().text(1, &map.name).be32(2, REG).be32(3, REG);
        let looked_up = self.load_all(map.fields()).expression("lookup", lookup);
        match map.kind() {
            Some(MapKind::Endpoint6) => looked_up.translate_in(NFPROTO_IPV6, FIFTH_REG),
            _ => looked_up.translate(),
        }
    }

    /// Sends the connection where its source was sent before, and remembers it for another while; a source that the
    /// map doesn't have ends the rule.
    pub fn translate_as_before(self, sticky: &str) -> Self {
        let lookup = Attributes::new().text(1, sticky).be32(2, THIRD_REG).be32(3, REG);
        self.load(Field::SourceAddress, THIRD_REG).expression("lookup", lookup).remember(sticky).translate()
    }

    /// As [`Rule::translate_to`], and remembers the choice for the connection's source.
    pub fn translate_and_remember(self, endpoints: &[(Ipv4Addr, u16)], sticky: &str) -> Self {
        self.pick(endpoints).load(Field::SourceAddress, THIRD_REG).remember(sticky).translate()
    }

    /// Puts one of the endpoints into the first two registers.
    fn pick(mut self, endpoints: &[(Ipv4Addr, u16)]) -> Self {
        if let [(address, port)] = endpoints {
            let value = |bytes: &[u8]| Attributes::new().bytes(1, bytes);
            let address = Attributes::new().be32(1, REG).nest(2, value(&address.octets()));
            let port = Attributes::new().be32(1, SECOND_REG).nest(2, value(&port.to_be_bytes()));
            return self.expression("immediate", address).expression("immediate", port);
        }
        let set = Set::numbered_endpoints(endpoints.len());
        let random = Attributes::new().be32(1, REG).be32(2, endpoints.len() as u32).be32(3, 1).be32(4, 0);
        let lookup = Attributes::new().text(1, &set.name).be32(2, REG).be32(3, REG).be32(4, set.id);
        let numbered = endpoints.iter().zip(0..);
        let elements =
            numbered.map(|((address, port), number)| Element::endpoint(Key::number(number), *address, *port)).collect();
        self.sets.push((set, elements));
        self.expression("numgen", random).expression("lookup", lookup)
    }

    fn translate(self) -> Self {
        self.translate_in(NFPROTO_IPV4, SECOND_REG)
    }

    /// To the address in the first register and the port in `port`.
    fn translate_in(self, family: u32, port: u32) -> Self {
        let nat = Attributes::new().be32(1, NAT_DNAT).be32(2, family).be32(3, REG).be32(5, port);
        self.expression("nat", nat)
    }

    /// Writes source address (third register) to endpoint (first two) into the sticky map, with its timeout anew.
    fn remember(self, sticky: &str) -> Self {
        const OP_UPDATE: u32 = 1;
        let update = Attributes::new().text(1, sticky).be32(3, OP_UPDATE).be32(4, THIRD_REG).be32(5, REG);
        self.expression("dynset", update)
    }

    /// One after the other, each into whole registers.
    fn load_all(self, fields: &[Field]) -> Self {
        let mut words = 0;
        fields.iter().fold(self, |rule, field| {
            let register = if words == 0 { REG } else { SECOND_REG - 1 + words };
            words += field.len().div_ceil(4);
            rule.load(*field, register)
        })
    }

    fn load(self, field: Field, register: u32) -> Self {
        let (base, offset) = match field {
            Field::Protocol => return self.meta_into(META_L4PROTO, register),
            Field::InputLink => return self.meta_into(META_IIFNAME, register),
            Field::OutputLink => return self.meta_into(META_OIFNAME, register),
            Field::SourceAddress => (NETWORK_HEADER, 12),
            Field::DestinationAddress => (NETWORK_HEADER, 16),
            Field::SourceAddress6 => (NETWORK_HEADER, 8),
            Field::DestinationAddress6 => (NETWORK_HEADER, 24),
            Field::DestinationPort => (TRANSPORT_HEADER, 2),
        };
        let load = Attributes::new().be32(1, register).be32(2, base).be32(3, offset).be32(4, field.len());
        self.expression("payload", load)
    }

    fn meta(self, key: u32) -> Self {
        self.meta_into(key, REG)
    }

    fn meta_into(self, key: u32, register: u32) -> Self {
        self.expression("meta", Attributes::new().be32(1, register).be32(2, key))
    }

    fn store_mark(self) -> Self {
        self.expression("meta", Attributes::new().be32(2, META_MARK).be32(3, REG))
    }

    fn conntrack(self, key: u32, bits: u32) -> Self {
        let load = Attributes::new().be32(1, REG).be32(2, key);
        self.expression("ct", load).bitwise(bits, 0).compare(CMP_NEQ, &0u32.to_ne_bytes())
    }

    fn address_type(self, of: u32) -> Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        let load = Attributes::new().be32(1, REG).be32(2, RESULT_ADDRESS_TYPE).be32(3, of);
        self.expression("fib", load)
    }

    fn bitwise(self, mask: u32, xor: u32) -> Self {
        self.mask(&mask.to_ne_bytes(), &xor.to_ne_bytes())
    }

    fn mask(self, mask: &[u8], xor: &[u8]) -> Self {
        let value = |bytes: &[u8]| Attributes::new().bytes(1, bytes);
        let body = Attributes::new().be32(1, REG).be32(2, REG).be32(3, mask.len() as u32);
        self.expression("bitwise", body.nest(4, value(mask)).nest(5, value(xor)))
    }

    fn compare_net(self, operator: u32, net: IpNet) -> Self {
        let (mask, network) = (octets(net.netmask()), octets(net.network()));
        self.mask(&mask, &vec![0; mask.len()]).compare(operator, &network)
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        let value = Attributes::new().bytes(1, value);
        self.expression("cmp", Attributes::new().be32(1, REG).be32(2, operator).nest(3, value))
    }

    fn verdict(self, verdict: Verdict, chain: Option<&str>) -> Self {
        let code = Attributes::new().be32(1, verdict as i32 as u32);
        let verdict = match chain {
            Some(chain) => code.text(2, chain),
            None => code,
        };
        let value = Attributes::new().nest(2, verdict);
        self.expression("immediate", Attributes::new().be32(1, REG_VERDICT).nest(2, value))
    }

    fn expression(mut self, name: &str, body: Attributes) -> Self {
        let expression = Attributes::new().text(1, name).nest(2, body);
        self.expressions = self.expressions.nest(1, expression);
        self
    }

    pub(super) fn anonymous_sets(&self) -> &[(Set, Vec<Element>)] {
        &self.sets
    }

    pub(super) fn body(&self, table: &str, chain: &str) -> Attributes {
        const USERDATA_COMMENT: u8 = 0;
        let body = Attributes::new().text(1, table).text(2, chain).nest(4, self.expressions.clone());
        let Some(comment) = &self.comment else {
            return body;
        };
        let mut data = vec![USERDATA_COMMENT, comment.len().min(127) as u8 + 1];
        data.extend(comment.bytes().take(127));
        data.push(0);
        body.bytes(7, &data)
    }
}

pub(super) fn link_name(name: &str) -> [u8; IFNAMSIZ] {
    let mut padded = [0; IFNAMSIZ];
    let len = name.len().min(IFNAMSIZ - 1);
    padded[..len].copy_from_slice(&name.as_bytes()[..len]);
    padded
}
