//! The Kubernetes API over HTTP: authenticates, authorizes, admits, validates, stores, watches and streams.
//!
//! The only crate that touches the store.
#![forbid(unsafe_code)]

pub mod admission;
mod api;
pub mod auth;
pub mod body;
pub mod bootstrap;
mod cache;
mod codec;
mod endpoints;
mod expiry;
mod handlers;
mod health;
mod http_server;
mod local;
mod metrics;
mod negotiate;
pub mod objects;
pub mod pki;
pub mod rbac;
pub mod registry;
pub mod request;
mod respond;
pub mod reviews;
mod server;
pub mod status;
pub mod streams;
pub mod tokens;

pub use objects::Objects;
pub use server::{Config, Error, Server};
pub use status::Status;
