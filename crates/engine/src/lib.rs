//! The container engine: images, layers, containers, exec and logs. It knows nothing of Kubernetes and serves no HTTP.
//!
//! A *sandbox* is one shim process holding namespaces; containers run in a sandbox. A pod is a sandbox with several
//! containers; a lone container has a sandbox of its own.
#![forbid(unsafe_code)]

pub mod engine;
pub mod images;
pub mod spec;

pub use engine::{Engine, Error, Result, Session};
pub use images::{Image, Images, PullProgress};
pub use spec::*;
