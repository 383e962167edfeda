//! Starting one container: image, configuration, creation, start, postStart hook.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use k8s_openapi::api::core::v1::Container;

use crate::action::Target;
use crate::admission;
use crate::container_spec::Parts;
use crate::images::{self, Puller};
use crate::lifecycle;
use crate::log_files;
use crate::pod;
use crate::runtime::{ContainerSpec, Sandbox, Seccomp};
use crate::status::{Record, Waiting, latest};
use crate::worker::Worker;

impl Worker {
    /// Starts `container` for the `restart_count`th time after the first; gives its id.
    ///
    /// # Errors
    /// Why it waits; the events are recorded.
    pub(crate) async fn start(
        &mut self,
        sandbox: &Sandbox,
        container: &Container,
        restart_count: i32,
        records: &[Record],
    ) -> Result<String, Waiting> {
        let context = Arc::clone(&self.context);
        let pod = Arc::clone(&self.pod);
        let about = pod::container_reference(&pod, &container.name);
        let failed = |reason: &'static str, message: String| {
            context.recorder.warning(&about, "Failed", &format!("Error: {message}"));
            Waiting { reason, message }
        };
        let pid_of =
            self.added_to(container, records).map_err(|message| failed("CreateContainerConfigError", message))?;
        let name = container.image.as_deref().unwrap_or("");
        if images::pulls(container, context.runtime.image(name).as_ref()) {
            // A pull may take long: until it is done the pod says how far it is.
            self.publish().await;
        }
        let puller =
            Puller { runtime: &*context.runtime, recorder: &context.recorder, sources: &self.references, pod: &pod };
        let image = tokio::select! {
            image = puller.ensure(container, &mut self.pulls) => image?,
            () = self.ending.cancelled() => return Err(cut_short()),
        };
        let parts = Parts {
            context: &context,
            pod: &pod,
            sandbox: &sandbox.status.id,
            addresses: &self.addresses,
            sources: &self.references,
            volumes: &self.volume_places,
            image: &image,
            restart_count,
            pid_of,
        };
        let spec = parts.build(container).await.map_err(|message| failed("CreateContainerConfigError", message))?;
        let id = spec.id.clone();
        let link = (spec.log.path.clone(), log_files::link(&context.config, &pod, &container.name, &id));
        self.forget_older(records, container, &spec).await;
        if let Seccomp::File(path) = &spec.seccomp
            && !tokio::fs::try_exists(path).await.unwrap_or(false)
        {
            let path = path.display();
            let message = format!("cannot load seccomp profile \"{path}\": open {path}: no such file or directory");
            return Err(failed("CreateContainerError", message));
        }
        if let Err(error) = context.runtime.create_container(spec).await {
            return Err(failed("CreateContainerError", error.to_string()));
        }
        context.recorder.normal(&about, "Created", "Container created");
        if let Err(error) = context.runtime.start_container(&id).await {
            return Err(failed("RunContainerError", error.to_string()));
        }
        context.recorder.normal(&about, "Started", "Container started");
        if let Err(error) = tokio::fs::symlink(&link.0, &link.1).await {
            tracing::warn!(link = %link.1.display(), %error, "log not linked");
        }
        self.post_start(container, &id).await?;
        Ok(id)
    }

    /// Of a container that was added to the running pod: which one's processes it sees.
    fn added_to(&self, container: &Container, records: &[Record]) -> Result<Option<String>, String> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let added = pod::ephemeral_containers(&spec);
        let Some((_, target)) = added.into_iter().find(|(added, _)| added.name == container.name) else {
            return Ok(None);
        };
        // The others were looked through when the pod was taken in.
        if let Some(field) = admission::unsupported_in_container(container) {
            return Err(format!("{field} is not supported by this node"));
        }
        let Some(target) = target else { return Ok(None) };
        let (record, _) = latest(records, &target);
        let id = record.map(|record| record.status.id.clone());
        id.map(Some).ok_or_else(|| format!("unable to find target container {target}"))
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), Waiting> {
        let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let target = Target {
            runtime: Arc::clone(&self.context.runtime),
            container_id: id.to_owned(),
            container: container.clone(),
            address: self.addresses.pod.first().and_then(|ip| ip.parse().ok()),
        };
        let outcome = tokio::select! {
            // As upstream: a hook may take as long as its pod lives.
            outcome = lifecycle::run(handler, &self.pod, &target, Duration::MAX) => outcome,
            () = self.ending.cancelled() => return Err(cut_short()),
        };
        let Err(message) = outcome else { return Ok(()) };
        let about = pod::container_reference(&self.pod, &container.name);
        self.context.recorder.warning(&about, "FailedPostStartHook", "PostStartHook failed");
        let grace = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(2);
        let deadline = Instant::now() + Duration::from_secs(grace.unsigned_abs());
        self.stop(false).one(&container.name, id, deadline, "FailedPostStartHook").await;
        Err(Waiting { reason: "PostStartHookError", message })
    }

    /// Only the last ended start of a container is kept, for its state and its logs.
    async fn forget_older(&self, records: &[Record], container: &Container, new: &ContainerSpec) {
        let mut older: Vec<&Record> = records.iter().filter(|record| record.name() == container.name).collect();
        older.pop();
        for record in older {
            if let Err(error) = self.context.runtime.remove_container(&record.status.id).await {
                tracing::warn!(container = container.name, %error, "old container not removed");
            }
            let link = log_files::link(&self.context.config, &self.pod, &container.name, &record.status.id);
            for file in [link, record.status.spec.log.path.clone()] {
                // It may have been rotated away or never written.
                let _ = tokio::fs::remove_file(file).await;
            }
        }
        if let Some(directory) = new.log.path.parent()
            && let Err(error) = tokio::fs::create_dir_all(directory).await
        {
            tracing::warn!(directory = %directory.display(), %error, "log directory not made");
        }
    }
}

/// The pod ends: what its container waited for doesn't matter any more.
fn cut_short() -> Waiting {
    Waiting { reason: "ContainerCreating", message: String::new() }
}
