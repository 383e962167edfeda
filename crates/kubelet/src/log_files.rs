//! Where log collectors look: a directory of logs for each pod, and a link into it for each start of a container. Both
//! go with the pod; what a kubelet left that was killed goes when the next one starts.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::kubelet::Config;
use crate::pod;

/// `<container_logs>/<pod>_<namespace>_<container>-<id>.log`.
pub fn link(config: &Config, pod: &Pod, container: &str, id: &str) -> PathBuf {
    config.container_logs.join(format!("{}{container}-{id}.log", prefix(pod)))
}

fn prefix(pod: &Pod) -> String {
    format!("{}_{}_", pod::name(pod), pod::namespace(pod))
}

/// Removes the logs of `pod` and the links to them.
pub async fn remove(config: &Config, pod: &Pod) {
    remove_directory(&pod::log_directory(&config.pod_logs, pod)).await;
    remove_dead_links(&config.container_logs, &prefix(pod)).await;
}

/// Removes the logs of pods that aren't `known` by their uids, and the links to them.
pub async fn remove_orphans(config: &Config, known: impl Fn(&str) -> bool) {
    for name in names(&config.pod_logs).await {
        // `<namespace>_<name>_<uid>`: none of them has an underscore in it.
        if name.rsplit_once('_').is_some_and(|(_, uid)| !known(uid)) {
            remove_directory(&config.pod_logs.join(name)).await;
        }
    }
    remove_dead_links(&config.container_logs, "").await;
}

async fn remove_dead_links(directory: &Path, prefix: &str) {
    for name in names(directory).await.into_iter().filter(|name| name.starts_with(prefix)) {
        let link = directory.join(name);
        if tokio::fs::metadata(&link).await.is_err_and(|error| error.kind() == ErrorKind::NotFound)
            && let Err(error) = tokio::fs::remove_file(&link).await
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(link = %link.display(), %error, "link to a log not removed");
        }
    }
}

async fn remove_directory(directory: &Path) {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(directory = %directory.display(), %error, "logs not removed");
        }
        _ => {}
    }
}

async fn names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else { return names };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.extend(entry.file_name().into_string());
    }
    names
}
