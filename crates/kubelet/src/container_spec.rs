//! From a container of a pod to what the runtime is asked to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use crate::env;
use crate::expand::expand;
use crate::fields::Addresses;
use crate::kubelet::Context;
use crate::pod;
use crate::qos;
use crate::references::Sources;
use crate::resources;
use crate::runtime::{ContainerSpec, ImageInfo, Log, LogFormat, Mount};
use crate::security;
use crate::{labels, service_env, volumes};

/// What a container needs that isn't in its own fields.
pub struct Parts<'a> {
    pub context: &'a Context,
    pub pod: &'a Pod,
    pub sandbox: &'a str,
    pub addresses: &'a Addresses,
    pub sources: &'a dyn Sources,
    pub volumes: &'a BTreeMap<String, PathBuf>,
    pub image: &'a ImageInfo,
    pub restart_count: i32,
    /// Id of the container whose processes it sees.
    pub pid_of: Option<String>,
}

impl Parts<'_> {
    /// The whole specification; makes the files and sub-path mounts that it names.
    ///
    /// # Errors
    /// Why not, in upstream's words, for `CreateContainerConfigError`.
    pub async fn build(&self, container: &Container) -> Result<ContainerSpec, String> {
        let config = &self.context.config;
        let directory = pod::directory(&config.data_dir, pod::uid(self.pod));
        let variables = env::variables(container, &self.env_inputs().await).await?;
        let lookup = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let expanded = |list: &Option<Vec<String>>| {
            list.as_ref()
                .filter(|list| !list.is_empty())
                .map(|list| list.iter().map(|arg| expand(arg, lookup)).collect())
        };
        let id = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let mut mounts = self.volume_mounts(container, &directory, lookup).await?;
        mounts.extend(self.own_files(container, &directory, &mounts));
        let termination_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        let termination_file = directory.join("containers").join(&container.name).join(&id[..8]);
        make_writable_file(&termination_file).await.map_err(|error| error.to_string())?;
        mounts.push(bind(&termination_file, Path::new(termination_path), "rprivate", false));
        let log = pod::log_directory(&config.pod_logs, self.pod)
            .join(&container.name)
            .join(format!("{}.log", self.restart_count));
        let mut spec = ContainerSpec {
            id,
            sandbox: self.sandbox.to_owned(),
            image: self.image.id.clone(),
            entrypoint: expanded(&container.command),
            args: expanded(&container.args),
            env: variables.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
            mounts,
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            limits: resources::container_limits(container),
            oom_score_adj: Some(qos::oom_score_adj(self.pod, container, self.context.capacity.memory_bytes)),
            log: Log { format: LogFormat::Cri, path: log, max_bytes: 10 << 20, max_files: 5 },
            pid_of: self.pid_of.clone(),
            stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
            labels: self.labels(container, &termination_file),
            ..ContainerSpec::default()
        };
        let profiles = config.data_dir.join("seccomp");
        security::apply(&mut spec, self.pod, container, &self.image.user, &profiles)?;
        Ok(spec)
    }

    async fn env_inputs(&self) -> env::Inputs<'_> {
        let namespace = pod::namespace(self.pod);
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        self.context.services.synced().await;
        let mut services = Vec::new();
        // The API server's own Service is known everywhere, unless the namespace has one of that name.
        if let Some(kubernetes) = self.context.services.get("default", "kubernetes")
            && !(links && self.context.services.get(namespace, "kubernetes").is_some())
        {
            services.push(kubernetes);
        }
        if links {
            let mut local = self.context.services.list_in(namespace);
            local.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
            services.extend(local);
        }
        env::Inputs {
            pod: self.pod,
            addresses: self.addresses,
            sources: self.sources,
            service_variables: service_env::variables(services.iter().map(AsRef::as_ref)),
            node_cpu_milli: self.context.capacity.cpu_milli,
            node_memory_bytes: self.context.capacity.memory_bytes,
        }
    }

    fn labels(&self, container: &Container, termination_file: &Path) -> BTreeMap<String, String> {
        let mut all = labels::of_pod(self.pod);
        let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".into());
        all.insert(labels::CONTAINER_NAME.into(), container.name.clone());
        all.insert(labels::RESTART_COUNT.into(), self.restart_count.to_string());
        all.insert(labels::TERMINATION_PATH.into(), termination_file.display().to_string());
        all.insert(labels::TERMINATION_POLICY.into(), policy);
        all.insert(labels::IMAGE.into(), container.image.clone().unwrap_or_default());
        all
    }

    async fn volume_mounts(
        &self,
        container: &Container,
        directory: &Path,
        lookup: impl Fn(&str) -> Option<String> + Copy,
    ) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let volume = self.volumes.get(&mount.name).ok_or_else(|| format!("volume {:?} not found", mount.name))?;
            let source = match sub_path(mount, lookup)? {
                None => volume.clone(),
                Some(sub_path) => {
                    let place = directory
                        .join("volume-subpaths")
                        .join(&mount.name)
                        .join(&container.name)
                        .join(index.to_string());
                    let volume = volume.clone();
                    tokio::task::spawn_blocking(move || volumes::bind_sub_path(&volume, &sub_path, place))
                        .await
                        .map_err(|error| error.to_string())??
                }
            };
            let propagation = match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave",
                Some("Bidirectional") => "rshared",
                _ => "rprivate",
            };
            let target = Path::new("/").join(&mount.mount_path);
            let read_only = mount.read_only == Some(true) || volumes::is_read_only(self.pod, &mount.name);
            mounts.push(bind(&source, &target, propagation, read_only));
        }
        // Outer mounts before inner ones.
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }

    /// Host name, hosts and resolv.conf, unless the pod mounts its own there.
    fn own_files(&self, container: &Container, directory: &Path, mounted: &[Mount]) -> Vec<Mount> {
        let readonly = container.security_context.as_ref().and_then(|context| context.read_only_root_filesystem);
        [("etc-hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")]
            .into_iter()
            .filter(|(_, target)| !mounted.iter().any(|mount| mount.target == Path::new(target)))
            .map(|(file, target)| bind(&directory.join(file), Path::new(target), "rprivate", readonly == Some(true)))
            .collect()
    }
}

fn sub_path(mount: &VolumeMount, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if let Some(path) = mount.sub_path.clone().filter(|path| !path.is_empty()) {
        return Ok(Some(path));
    }
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|path| !path.is_empty()) else { return Ok(None) };
    let missing = std::cell::Cell::new(None);
    let path = expand(expression, |name| {
        let value = lookup(name);
        if value.is_none() {
            missing.set(Some(name.to_owned()));
        }
        value
    });
    match missing.take() {
        Some(name) => Err(format!("failed to expand subPathExpr {expression:?}: missing value for {name:?}")),
        None => Ok(Some(path)),
    }
}

fn bind(source: &Path, target: &Path, propagation: &str, read_only: bool) -> Mount {
    let access = if read_only { "ro" } else { "rw" };
    Mount {
        kind: "bind".into(),
        source: source.to_path_buf(),
        target: target.to_path_buf(),
        options: vec!["rbind".into(), propagation.into(), access.into()],
    }
}

/// Whatever user the container runs as may write its last words.
async fn make_writable_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    tokio::fs::write(path, b"").await?;
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).await
}
