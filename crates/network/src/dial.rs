//! A runtime whose sockets belong to another network namespace: how an engine inside a machine dials registries and
//! resolvers as the host's user would.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::netns;

/// A runtime whose worker and blocking threads have entered `netns` (`None`: they stay where the process is).
///
/// Use [`Runtime::spawn`] or [`Runtime::spawn_blocking`]: `block_on` would run its future on the caller's own thread,
/// which is not in the namespace. Drop it with [`Runtime::shutdown_background`] from async code.
///
/// # Errors
/// If the namespace can't be opened or entered, or threads can't be made.
pub fn runtime_in_netns(netns: Option<&Path>, threads: usize) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads.max(1)).max_blocking_threads(8).thread_name("tug-dial").enable_all();
    if let Some(path) = netns {
        let namespace = Arc::new(File::open(path)?);
        // Whether it can be entered is found out here, where it can still be an error.
        netns::run(namespace.as_fd(), || Ok(())).map_err(io::Error::other)?;
        builder.on_thread_start(move || {
            netns::enter(namespace.as_fd()).expect("a namespace that was entered once can be entered again");
        });
    }
    builder.build()
}
