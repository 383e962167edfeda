//! What the status needs of containers beyond what the runtime says: their health, last words and image names.

use std::collections::HashMap;
use std::path::PathBuf;

use futures::StreamExt;

use crate::labels;
use crate::probes::Health;
use crate::runtime::{ContainerStatus, LogOptions, Runtime, State};
use crate::status::Record;

/// Bounds of a termination message, as upstream has them.
const MESSAGE_BYTES: usize = 4096;
const LOG_BYTES: usize = 2048;
const LOG_LINES: u64 = 80;

/// Records of `statuses`, oldest first. `health` tells it of a container by its id; `messages` keeps what was read once.
pub async fn gather(
    runtime: &dyn Runtime,
    mut statuses: Vec<ContainerStatus>,
    health: impl Fn(&str) -> Health,
    messages: &mut HashMap<String, String>,
) -> Vec<Record> {
    statuses.sort_by_key(|status| (labels::restart_count(status), status.created));
    messages.retain(|id, _| statuses.iter().any(|status| status.id == *id));
    let mut records = Vec::with_capacity(statuses.len());
    for status in statuses {
        let message = if status.state != State::Exited {
            String::new()
        } else if let Some(known) = messages.get(&status.id) {
            known.clone()
        } else {
            let message = last_words(runtime, &status).await;
            messages.insert(status.id.clone(), message.clone());
            message
        };
        let (image, image_id) = image_names(runtime, &status);
        let health = health(&status.id);
        records.push(Record { status, message, image, image_id, health });
    }
    records
}

/// The termination message file, or the end of the log of a failed container that asks for it.
async fn last_words(runtime: &dyn Runtime, status: &ContainerStatus) -> String {
    let path = status.labels.get(labels::TERMINATION_PATH).map(PathBuf::from);
    let mut text = match path {
        Some(path) => read_start(path).await,
        None => String::new(),
    };
    let falls_back =
        status.labels.get(labels::TERMINATION_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    if text.is_empty() && falls_back && status.exit_code != Some(0) {
        text = log_end(runtime, &status.id).await;
    }
    text
}

async fn read_start(path: PathBuf) -> String {
    use tokio::io::AsyncReadExt;
    let Ok(file) = tokio::fs::File::open(path).await else { return String::new() };
    let mut bytes = Vec::new();
    match file.take(MESSAGE_BYTES as u64).read_to_end(&mut bytes).await {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

async fn log_end(runtime: &dyn Runtime, id: &str) -> String {
    let Ok(mut lines) = runtime.logs(id, LogOptions { tail: Some(LOG_LINES), ..LogOptions::default() }) else {
        return String::new();
    };
    let mut bytes = Vec::new();
    while let Some(Ok(line)) = lines.next().await {
        bytes.extend_from_slice(&line.text);
    }
    let start = bytes.len().saturating_sub(LOG_BYTES);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

/// `image` and `imageID` of the status: the registry's names, or what there is.
fn image_names(runtime: &dyn Runtime, status: &ContainerStatus) -> (String, String) {
    let asked = status.labels.get(labels::IMAGE).cloned().unwrap_or_default();
    match runtime.image(&status.image) {
        Some(image) => {
            let name = image.names.iter().find(|name| name.ends_with(&asked)).or(image.names.first()).cloned();
            (name.unwrap_or(asked), image.digests.first().cloned().unwrap_or(image.id))
        }
        None => (asked, status.image.clone()),
    }
}
