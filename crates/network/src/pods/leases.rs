//! Which sandbox has which address: a file for each lease, named after the address, so that a lease is given or taken
//! in one step and a torn write can touch no other.
//!
//! The files need not outlive a power cut: neither do the sandboxes.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::error::{Error, Result, Step};
use crate::pods::Attachment;

/// All leases of one range.
pub(super) struct Leases {
    dir: PathBuf,
    range: Ipv4Net,
    held: BTreeMap<Ipv4Addr, Attachment>,
    /// The next address is looked for after this one: an address rests for a whole round before it is given again, so
    /// that connections to its last holder don't reach the next.
    last: Ipv4Addr,
}

impl Leases {
    /// Reads what is there. A lease that can't be read or that lies outside the range is dropped: nothing can be
    /// attached by it any more.
    pub(super) fn open(dir: PathBuf, range: Ipv4Net) -> Result<Self> {
        fs::create_dir_all(&dir).step(|| format!("making {}", dir.display()))?;
        let mut held = BTreeMap::new();
        for entry in fs::read_dir(&dir).step(|| format!("reading {}", dir.display()))? {
            let entry = entry.step(|| format!("reading {}", dir.display()))?;
            let address = entry.file_name().to_str().and_then(|name| name.parse::<Ipv4Addr>().ok());
            let lease = fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match address.zip(lease) {
                Some((address, lease)) if range.contains(&address) => {
                    held.insert(address, lease);
                }
                _ => {
                    tracing::warn!(file = %entry.path().display(), "dropping an unusable lease");
                    remove(&entry.path())?;
                }
            }
        }
        let last = held.keys().last().copied().unwrap_or_else(|| range.network());
        Ok(Self { dir, range, held, last })
    }

    /// The sandbox's address, a new one if it has none. The lease is on disk when this returns.
    pub(super) fn take(&mut self, attachment: &Attachment) -> Result<Ipv4Addr> {
        let address = match self.address_of(&attachment.id) {
            Some(address) => address,
            None => self.free().ok_or(Error::RangeExhausted { range: self.range, leased: self.held.len() })?,
        };
        if self.held.get(&address) != Some(attachment) {
            self.write(address, attachment)?;
            self.held.insert(address, attachment.clone());
        }
        self.last = address;
        Ok(address)
    }

    pub(super) fn release(&mut self, id: &str) -> Result<()> {
        let Some(address) = self.address_of(id) else {
            return Ok(());
        };
        remove(&self.dir.join(address.to_string()))?;
        self.held.remove(&address);
        Ok(())
    }

    pub(super) fn address_of(&self, id: &str) -> Option<Ipv4Addr> {
        self.held.iter().find(|(_, held)| held.id == id).map(|(address, _)| *address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Attachment)> {
        self.held.iter().map(|(address, attachment)| (*address, attachment))
    }

    /// Neither the network's own address, nor the bridge's (the first), nor the broadcast address.
    fn free(&self) -> Option<Ipv4Addr> {
        let first = u32::from(self.range.network()) + 2;
        let end = u32::from(self.range.broadcast());
        let start = (u32::from(self.last) + 1).clamp(first, end);
        (start..end).chain(first..start).map(Ipv4Addr::from).find(|address| !self.held.contains_key(address))
    }

    fn write(&self, address: Ipv4Addr, attachment: &Attachment) -> Result<()> {
        let path = self.dir.join(address.to_string());
        let partial = self.dir.join(format!("{address}.partial"));
        let bytes = serde_json::to_vec(attachment).map_err(std::io::Error::from);
        bytes
            .and_then(|bytes| fs::write(&partial, bytes))
            .and_then(|()| fs::rename(&partial, &path))
            .step(|| format!("writing lease {}", path.display()))
    }
}

fn remove(path: &std::path::Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).step(|| format!("removing {}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: &str) -> Attachment {
        Attachment { id: id.into(), ..Attachment::default() }
    }

    #[test]
    fn addresses_are_given_once_and_survive() {
        let dir = tempfile::tempdir().expect("a directory");
        let range: Ipv4Net = "10.244.3.0/29".parse().expect("a net");
        let mut leases = Leases::open(dir.path().into(), range).expect("opens");
        let given: Vec<_> =
            (0..5).map(|n| leases.take(&attachment(&n.to_string())).expect("free").to_string()).collect();
        assert_eq!(given, ["10.244.3.2", "10.244.3.3", "10.244.3.4", "10.244.3.5", "10.244.3.6"]);
        assert!(matches!(leases.take(&attachment("5")), Err(Error::RangeExhausted { leased: 5, .. })));
        assert_eq!(leases.take(&attachment("2")).expect("held").to_string(), "10.244.3.4");

        leases.release("1").expect("released");
        let mut reopened = Leases::open(dir.path().into(), range).expect("opens again");
        assert_eq!(reopened.address_of("3").map(|a| a.to_string()).as_deref(), Some("10.244.3.5"));
        assert_eq!(reopened.take(&attachment("new")).expect("one is free").to_string(), "10.244.3.3");
    }

    #[test]
    fn a_released_address_rests() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut leases = Leases::open(dir.path().into(), "10.244.3.0/24".parse().expect("a net")).expect("opens");
        let first = leases.take(&attachment("a")).expect("free");
        leases.release("a").expect("released");
        assert_ne!(leases.take(&attachment("b")).expect("free"), first);
    }

    #[test]
    fn torn_leases_are_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("10.244.3.9"), b"{\"id\":").expect("written");
        let leases = Leases::open(dir.path().into(), "10.244.3.0/24".parse().expect("a net")).expect("opens");
        assert_eq!(leases.iter().count(), 0);
        assert!(!dir.path().join("10.244.3.9").exists());
    }
}
