//! Each controller against an API server of its own, with a store on disk: what users would see, never how it came.

mod deployments;
mod endpoints;
mod garbage_collector;
mod namespace;
mod nodes;
mod replicas;
mod service_accounts;
mod support;
