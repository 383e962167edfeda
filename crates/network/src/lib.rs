//! Links, bridges, routes, addresses and nftables, as plain values: no kinds of objects here.
//!
//! Everything is set over netlink; no program is run. Whatever it makes in the kernel bears Tug's name.

pub mod nft;
pub mod pods;
