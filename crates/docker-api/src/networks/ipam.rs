//! Subnets of networks and addresses of containers: what may be asked for, what is chosen otherwise, and dockerd's words
//! for what can't be.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::networks::document::{Ipam, IpamConfig, Pool};
use crate::reply::Failure;

/// dockerd's default pools: from each, subnets of this length.
const POOLS: [([u8; 4], u8, u8); 7] = [
    ([172, 17, 0, 0], 16, 16),
    ([172, 18, 0, 0], 16, 16),
    ([172, 19, 0, 0], 16, 16),
    ([172, 20, 0, 0], 14, 16),
    ([172, 24, 0, 0], 14, 16),
    ([172, 28, 0, 0], 14, 16),
    ([192, 168, 0, 0], 16, 20),
];
const POOL_6_LEN: u8 = 64;
/// Of the /48 that an engine takes its IPv6 subnets from, this many are tried.
const MOST_TRIED: usize = 1 << 16;

/// What is taken already.
pub struct Taken<'a> {
    /// Subnets of other networks.
    pub networks: &'a [IpNet],
    /// What the host itself reaches: never chosen, but given to who asks for it.
    pub host: &'a [IpNet],
    /// The engine's own /48 of unique local addresses.
    pub ipv6: IpNet,
}

/// Whether what a client asks for makes sense.
///
/// # Errors
/// In dockerd's words: a line for each mistake.
pub fn check(configs: &[IpamConfig], ipv6: bool) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for config in configs {
        check_one(config, ipv6, &mut wrong);
    }
    joined(&wrong).map_or(Ok(()), |lines| Err(Failure::new(400, format!("invalid network config:\n{lines}"))))
}

/// Mistakes as dockerd lists them.
pub fn joined(wrong: &[String]) -> Option<String> {
    match wrong {
        [] => None,
        [one] => Some(one.clone()),
        many => {
            Some(format!("* {}", many.iter().map(|one| one.replace('\n', "\n\t")).collect::<Vec<_>>().join("\n* ")))
        }
    }
}

fn check_one(config: &IpamConfig, ipv6: bool, wrong: &mut Vec<String>) {
    let subnet: IpNet = match config.subnet.parse() {
        Ok(subnet) => subnet,
        Err(_) if config.subnet.is_empty() => return,
        Err(_) => {
            wrong.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
            return;
        }
    };
    let family = if subnet.addr().is_ipv6() { 6 } else { 4 };
    if family == 6 && !ipv6 {
        return;
    }
    if subnet != subnet.trunc() {
        wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    if !config.ip_range.is_empty() {
        check_range(&config.ip_range, subnet, family, wrong);
    }
    let address = |text: &str| match text.parse::<IpAddr>() {
        Err(_) => Some("invalid address".to_owned()),
        Ok(address) if address.is_ipv6() != subnet.addr().is_ipv6() => {
            Some(format!("parent subnet is an IPv{family} block"))
        }
        Ok(address) if !subnet.contains(&address) => {
            Some(format!("parent subnet {subnet} doesn't contain this address"))
        }
        Ok(_) => None,
    };
    if let Some(why) = (!config.gateway.is_empty()).then(|| address(&config.gateway)).flatten() {
        wrong.push(format!("invalid gateway {}: {why}", config.gateway));
    }
    for (name, value) in &config.auxiliary {
        if let Some(why) = address(value) {
            wrong.push(format!("invalid auxiliary address {name}: {why}"));
        }
    }
}

fn check_range(text: &str, subnet: IpNet, family: u8, wrong: &mut Vec<String>) {
    let Ok(range) = text.parse::<IpNet>() else {
        wrong.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
        return;
    };
    if range.addr().is_ipv6() != subnet.addr().is_ipv6() {
        wrong.push(format!("invalid ip-range {range}: parent subnet is an IPv{family} block"));
        return;
    }
    if range.prefix_len() < subnet.prefix_len() {
        wrong.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !overlap(&range, &subnet) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
}

/// The pools of a new bridge network.
///
/// # Errors
/// In dockerd's words when what is asked for is taken, or nothing is left.
pub fn pools(ipam: &Ipam, ipv4: bool, ipv6: bool, taken: &Taken<'_>) -> Result<Vec<Pool>, Failure> {
    let asked = ipam.config.as_deref().unwrap_or_default();
    let mut pools = Vec::new();
    for is_ipv6 in [false, true] {
        if !(if is_ipv6 { ipv6 } else { ipv4 }) {
            continue;
        }
        // Nothing asked for is IPv4's, as dockerd sorts them.
        let of_family = |config: &&IpamConfig| {
            let subnet = config.subnet.parse::<IpNet>();
            subnet.map_or(!is_ipv6, |subnet| subnet.addr().is_ipv6() == is_ipv6)
        };
        let configs: Vec<_> = asked.iter().filter(of_family).collect();
        match configs.as_slice() {
            [] => pools.push(pool(&IpamConfig::default(), is_ipv6, taken)?),
            [config] => pools.push(pool(config, is_ipv6, taken)?),
            _ => return Err(Failure::new(403, "bridge driver doesn't support multiple subnets")),
        }
    }
    Ok(pools)
}

fn pool(config: &IpamConfig, ipv6: bool, taken: &Taken<'_>) -> Result<Pool, Failure> {
    let asked: Option<IpNet> = config.subnet.parse().ok();
    let range: Option<IpNet> = config.ip_range.parse().ok();
    let subnet = match asked {
        Some(subnet) if !subnet.addr().is_unspecified() => {
            if taken.networks.iter().any(|other| overlap(other, &subnet)) {
                let words = "invalid pool request: Pool overlaps with other one on this address space";
                return Err(Failure::new(403, words));
            }
            subnet.trunc()
        }
        _ if range.is_some() => {
            let words = "failed to parse pool request for address space \"LocalDefault\" pool \"\" subpool";
            return Err(Failure::new(500, format!("{words} \"{}\": invalid address subpool", config.ip_range)));
        }
        // `0.0.0.0/24`: a subnet of this size.
        sized => choose(sized.map(|net| net.prefix_len()), ipv6, taken)?,
    };
    let mut pool = Pool { subnet, range, gateway: None, auxiliary: Default::default() };
    for (name, address) in &config.auxiliary {
        pool.auxiliary.extend(address.parse().ok().map(|address| (name.clone(), address)));
    }
    // The gateway is the range's first address, unless that is somebody's.
    let asked = config.gateway.parse().ok();
    pool.gateway = asked.or_else(|| pool.free(&BTreeSet::new()));
    if pool.gateway.is_none() {
        return Err(Failure::new(500, "failed to allocate gateway (): no available addresses on this pool"));
    }
    Ok(pool)
}

fn choose(len: Option<u8>, ipv6: bool, taken: &Taken<'_>) -> Result<IpNet, Failure> {
    let net = |address: IpAddr, len: u8| IpNet::new(address, len).expect("the pools' lengths are lengths");
    let bases: Vec<(IpNet, u8)> = if ipv6 {
        vec![(taken.ipv6, POOL_6_LEN)]
    } else {
        POOLS.map(|(address, base, len)| (net(Ipv4Addr::from(address).into(), base), len)).into()
    };
    let most = if ipv6 { 128 } else { 32 };
    let fits = |base: &IpNet| len.is_none_or(|len| base.prefix_len() <= len && len <= most);
    let mut bases = bases.into_iter().filter(|(base, _)| fits(base)).peekable();
    if bases.peek().is_none() {
        return Err(Failure::new(400, "invalid address pool"));
    }
    let candidates = bases.flat_map(|(base, own)| subnets(base, len.filter(|len| *len > 0).unwrap_or(own)));
    let free = |candidate: &IpNet| !taken.networks.iter().chain(taken.host).any(|other| overlap(other, candidate));
    let mut candidates = candidates.take(MOST_TRIED);
    let words = "all predefined address pools have been fully subnetted";
    candidates.find(free).ok_or_else(|| Failure::new(400, words))
}

/// The subnets of this length that a net is made of.
fn subnets(base: IpNet, len: u8) -> impl Iterator<Item = IpNet> {
    let (first, bits) = (number(base.network()), base.max_prefix_len());
    let count = 1u128.checked_shl(u32::from(len - base.prefix_len())).unwrap_or(u128::MAX);
    let size = 1u128.checked_shl(u32::from(bits - len)).unwrap_or(0);
    let is_ipv6 = base.addr().is_ipv6();
    (0..count).filter_map(move |index| IpNet::new(address(first + index * size, is_ipv6), len).ok())
}

impl Pool {
    /// The lowest address that nobody has.
    pub fn free(&self, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let range = self.range.unwrap_or(self.subnet);
        let is_ipv6 = range.addr().is_ipv6();
        let (mut next, last) = (number(range.network()), number(range.broadcast()));
        while next <= last {
            let candidate = address(next, is_ipv6);
            if !used.contains(&candidate) && !self.is_reserved(candidate) {
                return Some(candidate);
            }
            next = next.checked_add(1)?;
        }
        None
    }

    /// Neither the network's own addresses, nor the gateway's, nor one that was set aside, is a container's.
    pub fn is_reserved(&self, address: IpAddr) -> bool {
        let whole = self.subnet.max_prefix_len() - self.subnet.prefix_len();
        let ends = match address {
            // In a /31 and a /32 each address is somebody's (RFC 3021).
            IpAddr::V4(_) if whole <= 1 => false,
            IpAddr::V4(_) => address == self.subnet.network() || address == self.subnet.broadcast(),
            IpAddr::V6(_) => address == self.subnet.network(),
        };
        ends || self.gateway == Some(address) || self.auxiliary.values().any(|aside| *aside == address)
    }
}

/// The engine's own /48, from something random that it keeps.
pub fn unique_local(seed: &str) -> IpNet {
    let digits = u64::from_str_radix(seed.get(..10).unwrap_or_default(), 16).unwrap_or_default();
    let base = (0xfd_u128 << 120) | (u128::from(digits) << 80);
    IpNet::new(Ipv6Addr::from(base).into(), 48).expect("48 bits are a prefix")
}

pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}
