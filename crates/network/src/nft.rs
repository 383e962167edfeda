//! nftables over netlink: tables, chains, maps and rules, changed in one transaction.
//!
//! A [`Transaction`] gathers changes and commits them at once or not at all: no packet sees half of it. The published
//! crates are GPL, run `nft`, or lack NAT, maps and most expressions; the kernel's encoding is small enough to write.

mod listing;
mod rule;
mod set;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

pub use listing::{ChainInfo, RuleInfo, SetInfo, chains, elements, rules, sets, tables};
pub use rule::{Field, Rule};
pub use set::{Element, Key, MapKind, Set};

use crate::error::{Error, Result, Step};
use crate::netlink::{Attributes, Socket, message};

pub(crate) const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Elements are sent in pieces: an attribute holds less than 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    Ipv4,
    Ipv6,
    Bridge,
    Other(u8),
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
            Self::Bridge => 7,
            Self::Ipv6 => 10,
            Self::Other(number) => number,
        }
    }

    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ipv4,
            7 => Self::Bridge,
            10 => Self::Ipv6,
            other => Self::Other(other),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    pub family: Family,
    pub name: String,
}

impl Table {
    pub fn ipv4(name: impl Into<String>) -> Self {
        Self { family: Family::Ipv4, name: name.into() }
    }

    pub fn ipv6(name: impl Into<String>) -> Self {
        Self { family: Family::Ipv6, name: name.into() }
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    Filter,
    Nat,
}

/// A base chain's place; its policy is to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub chain_type: ChainType,
    pub hook: Hook,
    pub priority: i32,
}

/// `dstnat`, as `nft` names it.
pub const PRIORITY_DSTNAT: i32 = -100;
/// `srcnat`.
pub const PRIORITY_SRCNAT: i32 = 100;
/// `raw`: before conntrack sees the packet.
pub const PRIORITY_RAW: i32 = -300;

/// Changes that take effect together.
#[derive(Default)]
pub struct Transaction {
    changes: Vec<Change>,
    refilled: Option<Refilled>,
}

/// One message of a batch.
#[derive(Clone)]
struct Change {
    kind: u16,
    flags: u16,
    family: u8,
    body: Attributes,
    step: String,
}

/// A table whose whole content a transaction gives, and what it had before.
struct Refilled {
    table: Table,
    /// How many changes empty it.
    emptying: usize,
    chains: HashSet<String>,
    sets: HashSet<String>,
}

/// Names sets within a transaction; unique over the process, which is more than needed.
pub(crate) fn next_set_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Transaction {
    pub fn new() -> Self {
        Self::default()
    }

    /// A transaction that gives the whole content of a table, in place of what it has. What packets themselves added to
    /// a set that stays is kept.
    ///
    /// Base chains stay where they hang. Deleted and made anew they would both be asked for a moment, the new one first:
    /// a packet for which it isn't in force yet and the old one no longer is would pass untranslated, and with it its
    /// whole connection.
    ///
    /// # Errors
    /// If the kernel can't be asked what the table has.
    pub fn refill(table: &Table) -> Result<Self> {
        let mut change = Self::new();
        change.add_table(table);
        let chains = chains()?.into_iter().filter(|chain| chain.table == *table).map(|chain| chain.name).collect();
        let body = Attributes::new().text(1, &table.name);
        change.push(DELRULE, 0, table, body, || format!("flushing table {}", table.name));
        let mut names = HashSet::new();
        for set in sets(table)? {
            if !set.is_filled_by_packets {
                change.flush_set(table, &set.name);
            }
            names.insert(set.name);
        }
        let emptying = change.changes.len();
        change.refilled = Some(Refilled { table: table.clone(), emptying, chains, sets: names });
        Ok(change)
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self, table: &Table) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).be32(2, 0);
        self.push(NEWTABLE, NLM_F_CREATE, table, body, || format!("adding table {}", table.name))
    }

    /// Removes the table with all that is in it, whether it is there or not.
    pub fn delete_table(&mut self, table: &Table) -> &mut Self {
        // Adding it first makes the deletion valid in any case.
        self.add_table(table);
        let body = Attributes::new().text(1, &table.name);
        self.push(DELTABLE, 0, table, body, || format!("deleting table {}", table.name))
    }

    /// Makes a chain that is reached by jumps, unless it is there.
    pub fn add_chain(&mut self, table: &Table, name: &str) -> &mut Self {
        self.keeps(|refilled| &mut refilled.chains, name);
        let body = Attributes::new().text(1, &table.name).text(3, name);
        self.push(NEWCHAIN, NLM_F_CREATE, table, body, || format!("adding chain {name}"))
    }

    /// Makes a chain that packets meet at a hook, unless it is there.
    pub fn add_base_chain(&mut self, table: &Table, name: &str, base: Base) -> &mut Self {
        self.keeps(|refilled| &mut refilled.chains, name);
        let hook = Attributes::new().be32(1, base.hook.number()).be32(2, base.priority as u32);
        let chain_type = match base.chain_type {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        let body = Attributes::new().text(1, &table.name).text(3, name).nest(4, hook).text(7, chain_type);
        self.push(NEWCHAIN, NLM_F_CREATE, table, body, || format!("adding base chain {name}"))
    }

    /// Removes the rules of a chain; the chain stays.
    pub fn flush_chain(&mut self, table: &Table, name: &str) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).text(2, name);
        self.push(DELRULE, 0, table, body, || format!("flushing chain {name}"))
    }

    /// Removes a chain, which must be there and which nothing may refer to any more.
    pub fn delete_chain(&mut self, table: &Table, name: &str) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).text(3, name);
        self.push(DELCHAIN, 0, table, body, || format!("deleting chain {name}"))
    }

    /// Adds a rule after the others of its chain.
    pub fn add_rule(&mut self, table: &Table, chain: &str, rule: Rule) -> &mut Self {
        self.put_rule(table, chain, rule, NLM_F_CREATE | NLM_F_APPEND)
    }

    /// Adds a rule before the others of its chain.
    pub fn insert_rule(&mut self, table: &Table, chain: &str, rule: Rule) -> &mut Self {
        self.put_rule(table, chain, rule, NLM_F_CREATE)
    }

    fn put_rule(&mut self, table: &Table, chain: &str, rule: Rule, flags: u16) -> &mut Self {
        for (set, elements) in rule.anonymous_sets() {
            self.add_set(table, set);
            self.put_elements(NEWSETELEM, table, set, elements);
        }
        let body = rule.body(&table.name, chain);
        self.push(NEWRULE, flags, table, body, || format!("adding a rule to chain {chain}"))
    }

    /// Removes the rule that [`rules`] listed with this handle.
    pub fn delete_rule(&mut self, table: &Table, chain: &str, handle: u64) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).text(2, chain).be64(3, handle);
        self.push(DELRULE, 0, table, body, || format!("deleting rule {handle} of chain {chain}"))
    }

    /// Makes a set or map unless it is there.
    pub fn add_set(&mut self, table: &Table, set: &Set) -> &mut Self {
        self.keeps(|refilled| &mut refilled.sets, &set.name);
        let body = set.body(&table.name);
        self.push(NEWSET, NLM_F_CREATE, table, body, || format!("adding set {}", set.name))
    }

    pub fn delete_set(&mut self, table: &Table, name: &str) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).text(2, name);
        self.push(DELSET, 0, table, body, || format!("deleting set {name}"))
    }

    /// Removes all elements.
    pub fn flush_set(&mut self, table: &Table, name: &str) -> &mut Self {
        let body = Attributes::new().text(1, &table.name).text(2, name);
        self.push(DELSETELEM, 0, table, body, || format!("flushing set {name}"))
    }

    pub fn add_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) -> &mut Self {
        self.put_elements(NEWSETELEM, table, set, elements)
    }

    /// Removes elements, each of which must be there.
    pub fn delete_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) -> &mut Self {
        self.put_elements(DELSETELEM, table, set, elements)
    }

    fn put_elements(&mut self, kind: u16, table: &Table, set: &Set, elements: &[Element]) -> &mut Self {
        for piece in elements.chunks(ELEMENTS_A_MESSAGE) {
            let list = piece.iter().fold(Attributes::new(), |list, element| list.nest(1, element.body()));
            let mut body = Attributes::new().text(1, &table.name).text(2, &set.name).nest(3, list);
            if kind == NEWSETELEM {
                body = body.be32(4, set.id);
            }
            let flags = if kind == NEWSETELEM { NLM_F_CREATE } else { 0 };
            self.push(kind, flags, table, body, || format!("changing elements of {}", set.name));
        }
        self
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        table: &Table,
        body: Attributes,
        step: impl FnOnce() -> String,
    ) -> &mut Self {
        let (kind, flags, family) = (SUBSYSTEM | kind, flags | NLM_F_REQUEST, table.family.number());
        self.changes.push(Change { kind, flags, family, body, step: step() });
        self
    }

    fn keeps(&mut self, of: fn(&mut Refilled) -> &mut HashSet<String>, name: &str) {
        if let Some(refilled) = &mut self.refilled {
            of(refilled).remove(name);
        }
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// The first change that the kernel refused, and why.
    pub fn commit(mut self) -> Result<()> {
        let Some(Refilled { table, emptying, chains, sets }) = self.refilled.take() else {
            return commit(&self.changes);
        };
        let content = self.changes[emptying..].to_vec();
        for chain in &chains {
            self.delete_chain(&table, chain);
        }
        for set in &sets {
            self.delete_set(&table, set);
        }
        if commit(&self.changes).is_ok() {
            return Ok(());
        }
        // What is there may be of another shape: an older version's, or somebody else's work. Then it goes whole.
        let mut anew = Self::new();
        anew.delete_table(&table).add_table(&table);
        anew.changes.extend(content);
        commit(&anew.changes)
    }
}

fn commit(changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let header = |family: u8, resource: u16| {
        let mut header = vec![family, 0];
        header.extend_from_slice(&resource.to_be_bytes());
        header
    };
    let subsystem = header(0, SUBSYSTEM >> 8);
    let mut batch = message(BATCH_BEGIN, NLM_F_REQUEST, 0, &subsystem, &Attributes::new());
    let last = changes.len() as u32;
    for (seq, change) in (1..).zip(changes) {
        let flags = if seq == last { change.flags | NLM_F_ACK } else { change.flags };
        batch.extend_from_slice(&message(change.kind, flags, seq, &header(change.family, 0), &change.body));
    }
    batch.extend_from_slice(&message(BATCH_END, NLM_F_REQUEST, last + 1, &subsystem, &Attributes::new()));
    let mut socket = Socket::netfilter().step(|| "opening nftables".into())?;
    socket.execute_batch(&batch, 0, last).map_err(|(seq, source)| {
        let step = match seq.checked_sub(1).and_then(|index| changes.get(index as usize)) {
            Some(change) => change.step.clone(),
            None => format!("committing {} changes of nftables", changes.len()),
        };
        Error::Netlink { step: format!("nftables: {step}"), source }
    })
}

/// Removes a table with all that is in it, whether it is there or not.
///
/// # Errors
/// If the kernel refuses, which it does to a caller without `CAP_NET_ADMIN`.
pub fn delete_table(table: &Table) -> Result<()> {
    let mut transaction = Transaction::new();
    transaction.delete_table(table);
    transaction.commit()
}

#[cfg(test)]
mod tests;
