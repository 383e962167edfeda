//! The container engine: images, layers, containers, exec and logs. It knows nothing of Kubernetes and serves no HTTP.
//!
//! A *sandbox* is one shim process holding namespaces; containers run in a sandbox. A pod is a sandbox with several
//! containers; a lone container has a sandbox of its own.
#![forbid(unsafe_code)]

mod capabilities;
mod cgroup;
mod containers;
pub mod engine;
mod exec;
mod filter;
pub mod images;
mod logs;
mod pause;
mod progress;
mod propagation;
mod record;
mod rootfs;
mod runtime_spec;
mod sandboxes;
mod seccomp;
mod shim_client;
mod signals;
pub mod spec;
pub mod usage;
mod users;

pub use engine::{Engine, Error, Result, Session};
pub use images::{
    Commit, Download, Image, ImageEvent, Images, Layer, Loaded, LoginError, Platform, PullOptions, PullProgress,
    PushProgress, RemoteManifest, Removal, Removed,
};
pub use spec::*;
