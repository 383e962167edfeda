//! What nftables holds now: tables, chains, rules by their comments, elements.

use crate::error::{Result, Step};
use crate::netlink::{Attributes, Received, Socket, attribute, attributes, read_be32, text};
use crate::nft::set::{FLAG_ANONYMOUS, FLAG_EVAL};
use crate::nft::{Family, SUBSYSTEM, Table};

const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;
/// Length of `struct nfgenmsg`, which stands before the attributes.
const FAMILY_HEADER: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    pub table: Table,
    pub name: String,
    /// Of a base chain: `filter`, `nat` or `route`, and the hook's number.
    pub base: Option<(String, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    pub table: Table,
    pub chain: String,
    pub handle: u64,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInfo {
    pub name: String,
    /// As [`crate::nft::Set::sticky`]'s are.
    pub is_filled_by_packets: bool,
}

/// All tables of the namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn tables() -> Result<Vec<Table>> {
    let found = dump(GETTABLE, Family::Other(0), &Attributes::new(), "listing tables")?;
    Ok(found
        .iter()
        .filter_map(|(family, body)| Some(Table { family: *family, name: text(attribute(body, 1)?) }))
        .collect())
}

/// All chains of the namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn chains() -> Result<Vec<ChainInfo>> {
    let found = dump(GETCHAIN, Family::Other(0), &Attributes::new(), "listing chains")?;
    Ok(found
        .iter()
        .filter_map(|(family, body)| {
            let table = Table { family: *family, name: text(attribute(body, 1)?) };
            let hook = attribute(body, 4).and_then(|hook| attribute(hook, 1)).and_then(read_be32);
            let base = hook.zip(attribute(body, 7)).map(|(hook, chain_type)| (text(chain_type), hook));
            Some(ChainInfo { table, name: text(attribute(body, 3)?), base })
        })
        .collect())
}

/// The rules of a table.
///
/// # Errors
/// If the kernel refuses.
pub fn rules(table: &Table) -> Result<Vec<RuleInfo>> {
    let filter = Attributes::new().text(1, &table.name);
    let found = dump(GETRULE, table.family, &filter, "listing rules")?;
    Ok(found
        .iter()
        .filter_map(|(family, body)| {
            let table = Table { family: *family, name: text(attribute(body, 1)?) };
            let handle = u64::from_be_bytes(attribute(body, 3)?.try_into().ok()?);
            let comment = attribute(body, 7).and_then(comment);
            Some(RuleInfo { table, chain: text(attribute(body, 2)?), handle, comment })
        })
        .filter(|rule| rule.table == *table)
        .collect())
}

/// The sets and maps of a table that have names of their own; those of single rules are left out.
///
/// # Errors
/// If the kernel refuses.
pub fn sets(table: &Table) -> Result<Vec<SetInfo>> {
    // Of all tables: to ask for one that isn't there is an error.
    let found = dump(GETSET, table.family, &Attributes::new(), "listing sets")?;
    Ok(found
        .iter()
        .filter(|(_, body)| attribute(body, 1).is_some_and(|name| text(name) == table.name))
        .filter_map(|(_, body)| {
            let flags = attribute(body, 3).and_then(read_be32).unwrap_or_default();
            let set = SetInfo { name: text(attribute(body, 2)?), is_filled_by_packets: flags & FLAG_EVAL != 0 };
            (flags & FLAG_ANONYMOUS == 0).then_some(set)
        })
        .collect())
}

/// Keys of a set's or map's elements, and the values of a map to endpoints, as the kernel holds them.
///
/// # Errors
/// If there is no such set.
pub fn elements(table: &Table, set: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let filter = Attributes::new().text(1, &table.name).text(2, set);
    let found = dump(GETSETELEM, table.family, &filter, "listing elements")?;
    let value = |element: &[u8], kind| attribute(element, kind).and_then(|data| attribute(data, 1)).map(<[u8]>::to_vec);
    Ok(found
        .iter()
        .filter_map(|(_, body)| attribute(body, 3))
        .flat_map(attributes)
        .filter_map(|(_, element)| Some((value(element, 1)?, value(element, 2).unwrap_or_default())))
        .collect())
}

/// The comment among a rule's user data: a list of type, length and value, one byte each for the first two.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            return Some(text(value));
        }
        data = &rest[usize::from(*len)..];
    }
    None
}

fn dump(kind: u16, family: Family, filter: &Attributes, step: &str) -> Result<Vec<(Family, Vec<u8>)>> {
    let failed = || format!("nftables: {step}");
    let mut socket = Socket::netfilter().step(failed)?;
    let found = socket.dump(SUBSYSTEM | kind, &[family.number(), 0, 0, 0], filter).step(failed)?;
    Ok(found.into_iter().filter_map(split).collect())
}

fn split(received: Received) -> Option<(Family, Vec<u8>)> {
    debug_assert_eq!(received.kind & 0xff00, SUBSYSTEM, "only nftables answers on this socket");
    let family = Family::from_number(*received.payload.first()?);
    Some((family, received.payload.get(FAMILY_HEADER..)?.to_vec()))
}
