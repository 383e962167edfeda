//! Links, bridges, routes, addresses and nftables, as plain values: no kinds of objects here.
//!
//! Everything is set over netlink; no program is run. Whatever it makes in the kernel bears Tug's name. Functions that
//! are not `async` block for as long as the kernel takes (microseconds to milliseconds): async callers use
//! `spawn_blocking`. All of them act on the network namespace of the thread that calls them.

pub mod bridges;
pub mod conntrack;
pub mod dial;
mod error;
pub mod features;
pub mod hosts;
pub mod links;
mod netlink;
pub mod netns;
pub mod nft;
pub mod pods;
mod sysctl;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};
