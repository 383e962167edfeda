//! The kubelet: turns the pods bound to this node into containers and reports back.
//!
//! One task a pod compares the pod's spec with what the [`runtime::Runtime`] has and takes the next step; an informer
//! and the runtime's events wake it. Containers outlive the kubelet: a new one takes them back by their labels.
#![forbid(unsafe_code)]

pub mod engine_runtime;
pub mod runtime;

mod action;
mod admission;
mod backoff;
mod container_spec;
mod drive;
mod end;
mod env;
mod expand;
mod fields;
mod files;
mod groups;
mod images;
mod keyring;
mod kubelet;
mod labels;
mod lease;
mod lifecycle;
mod local_storage;
mod log_files;
mod node;
mod pod;
mod pods;
mod probes;
mod qos;
mod records;
mod references;
mod resolv;
mod resources;
mod sandbox;
mod security;
mod server;
mod service_env;
mod start;
mod status;
mod status_writer;
mod task;
mod termination;
mod volumes;
mod worker;

pub use engine_runtime::EngineRuntime;
pub use kubelet::{Config, Drained, Error, Kubelet};
