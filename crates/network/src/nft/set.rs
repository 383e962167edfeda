//! Sets and maps: what their keys and values are, and their elements.

use std::net::IpAddr;
use std::time::Duration;

use crate::netlink::{Attributes, octets};
use crate::nft::rule::link_name;
use crate::nft::{Field, next_set_id};
use crate::pods::Protocol;

pub(super) const FLAG_ANONYMOUS: u32 = 0x1;
const FLAG_CONSTANT: u32 = 0x2;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
pub(super) const FLAG_EVAL: u32 = 0x20;

/// `nft`'s numbers of types, with which it prints what it lists; the kernel only looks at lengths.
const TYPE_INTEGER: u32 = 4;
const TYPE_ADDRESS: u32 = 7;
const TYPE_ADDRESS_6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_LINK_NAME: u32 = 41;
const DATA_VERDICT: u32 = 0xffff_ff00;
const VERDICT_GOTO: i32 = -4;

/// What a map gives for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// A chain to go on in.
    Verdict,
    /// An address and a port to translate to.
    Endpoint,
    /// The same of IPv6.
    Endpoint6,
}

/// A set's or map's shape.
#[derive(Clone, Debug)]
pub struct Set {
    pub name: String,
    pub(crate) id: u32,
    key: KeyShape,
    map: Option<MapKind>,
    flags: u32,
    timeout: Option<Duration>,
    size: Option<u32>,
}

#[derive(Clone, Debug)]
enum KeyShape {
    Fields(Vec<Field>),
    /// A number of the host's byte order, as `numgen` gives.
    Number,
}

impl Set {
    /// A set of keys.
    pub fn new(name: impl Into<String>, key: &[Field]) -> Self {
        Self {
            name: name.into(),
            id: next_set_id(),
            key: KeyShape::Fields(key.to_vec()),
            map: None,
            flags: 0,
            timeout: None,
            size: None,
        }
    }

    /// A map from keys.
    pub fn map(name: impl Into<String>, key: &[Field], kind: MapKind) -> Self {
        Self { map: Some(kind), flags: FLAG_MAP, ..Self::new(name, key) }
    }

    /// A map that packets themselves fill: each source address keeps the endpoint it got for `timeout` after its last
    /// new connection. At most `size` sources are remembered; past it, new sources go where chance sends them.
    pub fn sticky(name: impl Into<String>, timeout: Duration, size: u32) -> Self {
        Self {
            flags: FLAG_MAP | FLAG_TIMEOUT | FLAG_EVAL,
            timeout: Some(timeout),
            size: Some(size),
            ..Self::map(name, &[Field::SourceAddress], MapKind::Endpoint)
        }
    }

    /// The endpoints that one rule picks from; it lives and dies with the rule.
    pub(crate) fn numbered_endpoints(count: usize) -> Self {
        Self {
            name: "__map%d".into(),
            key: KeyShape::Number,
            flags: FLAG_MAP | FLAG_ANONYMOUS | FLAG_CONSTANT,
            size: Some(count as u32),
            ..Self::map("", &[], MapKind::Endpoint)
        }
    }

    /// What its keys are made of.
    pub(super) fn fields(&self) -> &[Field] {
        match &self.key {
            KeyShape::Fields(fields) => fields,
            KeyShape::Number => &[],
        }
    }

    pub(super) fn kind(&self) -> Option<MapKind> {
        self.map
    }

    pub(crate) fn body(&self, table: &str) -> Attributes {
        let (key_type, key_len) = match &self.key {
            KeyShape::Number => (TYPE_INTEGER, 4),
            KeyShape::Fields(fields) => fields.iter().fold((0, 0), |(kind, len), field| {
                let number = match field {
                    Field::SourceAddress | Field::DestinationAddress => TYPE_ADDRESS,
                    Field::SourceAddress6 | Field::DestinationAddress6 => TYPE_ADDRESS_6,
                    Field::Protocol => TYPE_PROTOCOL,
                    Field::DestinationPort => TYPE_SERVICE,
                    Field::InputLink | Field::OutputLink => TYPE_LINK_NAME,
                };
                // A lone field has its own length; in a concatenation each takes whole registers.
                let field_len = if fields.len() == 1 { field.len() } else { field.len().next_multiple_of(4) };
                (kind << 6 | number, len + field_len)
            }),
        };
        let mut body =
            Attributes::new().text(1, table).text(2, &self.name).be32(3, self.flags).be32(4, key_type).be32(5, key_len);
        body = match self.map {
            None => body,
            Some(MapKind::Verdict) => body.be32(6, DATA_VERDICT),
            Some(MapKind::Endpoint) => body.be32(6, TYPE_ADDRESS << 6 | TYPE_SERVICE).be32(7, 8),
            Some(MapKind::Endpoint6) => body.be32(6, TYPE_ADDRESS_6 << 6 | TYPE_SERVICE).be32(7, 20),
        };
        if let Some(size) = self.size {
            body = body.nest(9, Attributes::new().be32(1, size));
        }
        body = body.be32(10, self.id);
        if let Some(timeout) = self.timeout {
            body = body.be64(11, timeout.as_millis() as u64);
        }
        body
    }
}

/// A key being put together, each part in registers of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) Vec<u8>);

impl Key {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.0.extend(octets(address.into()));
        self
    }

    pub fn link(mut self, name: &str) -> Self {
        self.0.extend_from_slice(&link_name(name));
        self
    }

    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.0.extend_from_slice(&[protocol.number(), 0, 0, 0]);
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.0.extend_from_slice(&port.to_be_bytes());
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    pub(crate) fn number(number: u32) -> Self {
        Self(number.to_ne_bytes().to_vec())
    }

    /// The bytes as the kernel holds them: addresses and ports big-endian, each part padded to four bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Key,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a set, or when deleting.
    None,
    Goto(String),
    Endpoint(IpAddr, u16),
}

impl Element {
    pub fn key(key: Key) -> Self {
        Self { key, value: Value::None }
    }

    pub fn goto(key: Key, chain: impl Into<String>) -> Self {
        Self { key, value: Value::Goto(chain.into()) }
    }

    pub fn endpoint(key: Key, address: impl Into<IpAddr>, port: u16) -> Self {
        Self { key, value: Value::Endpoint(address.into(), port) }
    }

    pub(crate) fn body(&self) -> Attributes {
        let body = Attributes::new().nest(1, Attributes::new().bytes(1, &self.key.0));
        match &self.value {
            Value::None => body,
            Value::Goto(chain) => {
                let verdict = Attributes::new().be32(1, VERDICT_GOTO as u32).text(2, chain);
                body.nest(2, Attributes::new().nest(2, verdict))
            }
            Value::Endpoint(address, port) => {
                body.nest(2, Attributes::new().bytes(1, &Key::new().address(*address).port(*port).0))
            }
        }
    }
}
