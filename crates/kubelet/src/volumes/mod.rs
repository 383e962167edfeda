//! A pod's volumes: set up below `pods/<uid>/volumes` as upstream lays them out, kept up to date, torn down.

mod atomic;
mod empty_dir;
mod host_path;
mod ownership;
mod payload;
mod sub_path;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;

use crate::fields::Addresses;
use crate::references::Sources;

pub use self::payload::Payload;
pub use self::sub_path::bind_sub_path;
pub use self::token::Tokens;

/// A volume that can't be set up, in the words of upstream's `FailedMount` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeError {
    pub volume: String,
    pub message: String,
}

/// What volumes are made from.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub sources: &'a dyn Sources,
    pub tokens: &'a Tokens,
    pub addresses: &'a Addresses,
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
}

/// The volumes of one pod.
#[derive(Debug)]
pub struct Volumes {
    directory: PathBuf,
    /// What was last written into each volume of files.
    written: Mutex<HashMap<String, Payload>>,
}

impl Volumes {
    /// `pod_directory` is `<data>/pods/<uid>`.
    pub fn new(pod_directory: &Path) -> Self {
        Self { directory: pod_directory.join("volumes"), written: Mutex::default() }
    }

    /// Brings every volume to what it should be and says where each is on the node. Run again whenever something that
    /// it is made from may have changed.
    pub async fn set_up(&self, inputs: &Inputs<'_>) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
        let mut places = BTreeMap::new();
        for volume in inputs.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let place = self
                .set_up_one(volume, inputs)
                .await
                .map_err(|message| VolumeError { volume: volume.name.clone(), message })?;
            places.insert(volume.name.clone(), place);
        }
        Ok(places)
    }

    async fn set_up_one(&self, volume: &Volume, inputs: &Inputs<'_>) -> Result<PathBuf, String> {
        if let Some(host) = volume.host_path.clone() {
            return blocking(move || host_path::prepare(&host)).await;
        }
        let place = self.directory.join(plugin(volume)).join(&volume.name);
        let fs_group = fs_group(inputs.pod);
        let Some(payload) = payload::of(volume, inputs).await? else {
            let (empty, made) = (volume.empty_dir.clone().unwrap_or_default(), place.clone());
            blocking(move || empty_dir::prepare(&made, &empty, fs_group)).await?;
            return Ok(place);
        };
        if self.written.lock().get(&volume.name) == Some(&payload) {
            return Ok(place);
        }
        // Secrets and tokens never reach a disk.
        let in_memory = volume.config_map.is_none();
        let (target, files) = (place.clone(), payload.clone());
        blocking(move || {
            if in_memory {
                empty_dir::mount_tmpfs(&target, None)?;
            } else {
                std::fs::create_dir_all(&target).map_err(|error| error.to_string())?;
            }
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o777)).map_err(|e| e.to_string())?;
            atomic::write(&target, &files, fs_group).map_err(|error| error.to_string())?;
            ownership::give_read_only(&target, fs_group).map_err(|error| error.to_string())
        })
        .await?;
        self.written.lock().insert(volume.name.clone(), payload);
        Ok(place)
    }
}

/// Unmounts whatever is mounted below these parts of a pod's directory and removes them; the part `""` is all of it.
/// Idempotent; never crosses into a volume's other side, for a directory with a mount left in it can't be removed.
///
/// # Errors
/// If a mount is busy or a directory can't be removed.
pub async fn tear_down(pod_directory: PathBuf, parts: &'static [&'static str]) -> Result<(), String> {
    blocking(move || {
        let parts: Vec<PathBuf> = parts.iter().map(|part| pod_directory.join(part)).collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let mut below: Vec<PathBuf> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|path| PathBuf::from(path.replace("\\040", " ")))
            .filter(|path| parts.iter().any(|part| path.starts_with(part)))
            .collect();
        // The last mounted first.
        below.reverse();
        for path in below {
            nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW)
                .map_err(|error| format!("unmounting {}: {error}", path.display()))?;
        }
        for part in parts {
            match std::fs::remove_dir_all(&part) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("removing {}: {error}", part.display()));
                }
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

/// Directory of the volume's kind, as upstream names it.
fn plugin(volume: &Volume) -> &'static str {
    if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else {
        "kubernetes.io~empty-dir"
    }
}

/// Whether containers only ever read a volume: it is made from objects, and written anew when they change.
pub fn is_read_only(pod: &Pod, name: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let from_objects = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some();
        volume.name == name && from_objects
    })
}

/// Group that owns the pod's volumes.
fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|gid| u32::try_from(gid).ok())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
