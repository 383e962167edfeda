//! Runtimes whose sockets belong to another network namespace, and whose files to another mount namespace: how an engine
//! inside a machine dials registries and resolvers, and looks names up, as the host's user would.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
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

/// A runtime for [`Runtime::spawn_blocking`] alone, whose threads see names and sockets as a process of these namespaces:
/// its `/etc/hosts`, `/etc/resolv.conf` and `/etc/nsswitch.conf`, and what those name. It has no thread while it is idle.
///
/// # Errors
/// If a namespace can't be opened or entered.
pub fn lookups_in(netns: &Path, mntns: &Path) -> io::Result<Runtime> {
    let namespaces = Arc::new((File::open(netns)?, File::open(mntns)?));
    let enter = move || -> io::Result<()> {
        let (netns, mntns) = &*namespaces;
        netns::enter(netns.as_fd()).map_err(io::Error::other)?;
        // Threads share their working and root directories, which are in one mount namespace.
        unshare(CloneFlags::CLONE_FS)?;
        setns(mntns, CloneFlags::CLONE_NEWNS)?;
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(&enter).join()).map_err(|_| io::Error::other("the thread panicked"))??;
    Builder::new_current_thread()
        .max_blocking_threads(4)
        .thread_name("tug-names")
        .on_thread_start(move || enter().expect("namespaces that were entered once can be entered again"))
        .build()
}
