//! A DNS server: what its zone knows it answers, everything else is asked of upstream resolvers ([`forward`]).
//!
//! The cluster's names and those of Docker's networks are zones.
#![forbid(unsafe_code)]

mod forward;
mod listen;

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, Record};
use tokio::runtime::Handle;

pub use forward::resolvers;
pub use listen::Sockets;

/// What answers questions of class IN.
pub trait Zone: Send + Sync + 'static {
    fn answer(&self, query: &Query) -> Answer;
}

/// What a zone says to a question.
#[derive(Debug)]
pub enum Answer {
    /// Not of this zone: an upstream resolver's to answer.
    Elsewhere,
    /// It can't be told: `SERVFAIL`, upon which clients ask again or elsewhere.
    Unknown,
    Here(Here),
    /// An alias whose target somebody else must resolve.
    Alias {
        record: Box<Record>,
        target: Name,
    },
}

#[derive(Debug, Default)]
pub struct Here {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    /// With the zone's SOA record when there is no answer, for clients that remember that (RFC 2308).
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// Answers for a zone on any number of sockets.
pub struct Server {
    zone: Arc<dyn Zone>,
    forwarder: forward::Forwarder,
}

impl Server {
    /// `upstreams` are tried in order, and with none, other names fail; `dial` is the runtime that they are asked from,
    /// when their addresses mean something in another network namespace.
    pub fn new(zone: Arc<dyn Zone>, upstreams: Vec<SocketAddr>, dial: Option<Handle>) -> Arc<Self> {
        Arc::new(Self { zone, forwarder: forward::Forwarder::new(upstreams, dial) })
    }
}

#[cfg(test)]
mod tests;
