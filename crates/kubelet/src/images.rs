//! An image for a container: there already, pulled, or why not (upstream's image manager, in its words).

use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod};
use tug_client::Recorder;

use crate::backoff::{Backoff, go_millis};
use crate::keyring;
use crate::pod::container_reference;
use crate::references::Sources;
use crate::runtime::{Auth, ImageInfo, Reference, Runtime};
use crate::status::Waiting;

/// The last failed pull of each image of a pod.
#[derive(Default)]
pub struct Pulls {
    backoff: Backoff,
    failed: std::collections::HashMap<String, (Instant, String)>,
}

/// Where images are pulled from and who is told.
pub struct Puller<'a> {
    pub runtime: &'a dyn Runtime,
    pub recorder: &'a Recorder,
    pub sources: &'a dyn Sources,
    pub pod: &'a Pod,
}

impl Puller<'_> {
    /// The container's image.
    ///
    /// # Errors
    /// Why the container waits: `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`.
    pub async fn ensure(&self, container: &Container, pulls: &mut Pulls) -> Result<ImageInfo, Waiting> {
        let name = container.image.as_deref().unwrap_or("");
        let about = container_reference(self.pod, &container.name);
        if let Err(error) = Reference::parse(name) {
            let message =
                format!("Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {error}");
            self.recorder.warning(&about, "InspectFailed", &message);
            return Err(self.waits(container, "InvalidImageName", message));
        }
        let known = self.runtime.image(name);
        match (policy(container, name), known) {
            ("Never", None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                self.recorder.warning(&about, "ErrImageNeverPull", &message);
                return Err(self.waits(container, "ErrImageNeverPull", message));
            }
            ("Always", Some(image)) if image.local => {
                let message = format!(
                    "Container image {name:?} was made on this machine and runs as it is, whatever a registry has, although its pull policy is Always"
                );
                self.recorder.normal(&about, "Pulled", &message);
                return Ok(image);
            }
            ("IfNotPresent" | "Never", Some(image)) => {
                let message =
                    format!("Container image {name:?} already present on machine and can be accessed by the pod");
                self.recorder.normal(&about, "Pulled", &message);
                return Ok(image);
            }
            _ => {}
        }
        if let Some((at, error)) = pulls.failed.get(name)
            && pulls.backoff.remaining(name, *at, Instant::now()).is_some()
        {
            let message = format!("Back-off pulling image {name:?}");
            self.recorder.normal(&about, "BackOff", &message);
            return Err(self.waits(container, "ImagePullBackOff", format!("{message}: ErrImagePull: {error}")));
        }
        self.recorder.normal(&about, "Pulling", &format!("Pulling image {name:?}"));
        let began = Instant::now();
        match self.pull(name).await {
            Ok(image) => {
                let took = go_millis(began.elapsed());
                let message = format!(
                    "Successfully pulled image {name:?} in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size_bytes
                );
                self.recorder.normal(&about, "Pulled", &message);
                pulls.failed.remove(name);
                pulls.backoff.forget(name);
                Ok(image)
            }
            Err(error) => {
                self.recorder.warning(&about, "Failed", &format!("Failed to pull image {name:?}: {error}"));
                let now = Instant::now();
                pulls.backoff.next(name, now, now);
                pulls.failed.insert(name.to_owned(), (now, error.clone()));
                Err(self.waits(container, "ErrImagePull", error))
            }
        }
    }

    /// Tries each credential that fits, then none.
    async fn pull(&self, name: &str) -> Result<ImageInfo, String> {
        let secrets = self.pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
        let mut attempts = Vec::new();
        for reference in secrets {
            match self.sources.secret(&reference.name).await {
                Some(secret) => attempts.extend(keyring::credentials(&secret, name)),
                None => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.recorder.warning(
                        &crate::pod::reference(self.pod),
                        "FailedToRetrieveImagePullSecret",
                        &message,
                    );
                }
            }
        }
        attempts.push(Auth::Anonymous);
        let mut last = String::new();
        for auth in attempts {
            match self.runtime.pull(name, auth).await {
                Ok(image) => return Ok(image),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    fn waits(&self, container: &Container, reason: &'static str, message: String) -> Waiting {
        self.recorder.warning(&container_reference(self.pod, &container.name), "Failed", &format!("Error: {reason}"));
        Waiting { reason, message }
    }
}

impl Pulls {
    /// When a failed pull may be tried again.
    pub fn retry_in(&self, name: &str) -> Option<std::time::Duration> {
        let (at, _) = self.failed.get(name)?;
        self.backoff.remaining(name, *at, Instant::now())
    }
}

/// Whether the container's start begins with a pull.
pub fn pulls(container: &Container, known: Option<&ImageInfo>) -> bool {
    let name = container.image.as_deref().unwrap_or("");
    match (policy(container, name), known) {
        ("Never", _) => false,
        ("Always", Some(image)) => !image.local,
        (_, known) => known.is_none(),
    }
}

/// The API server sets a policy; this is its default, for pods that came another way.
fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let tail = image.rsplit('/').next().unwrap_or(image);
            let latest = !tail.contains('@') && (tail.ends_with(":latest") || !tail.contains(':'));
            if latest { "Always" } else { "IfNotPresent" }
        }
    }
}
