//! The files of a configMap, secret, downwardAPI or projected volume, before they are written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use super::Inputs;
use crate::fields;
use crate::resources;

const DEFAULT_MODE: i32 = 0o644;

/// Files by their path in the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub files: BTreeMap<String, PayloadFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    pub content: Vec<u8>,
    pub mode: u32,
    /// Root when `None`.
    pub owner: Option<u32>,
}

/// The volume's files; `None` when it isn't a volume of files.
///
/// # Errors
/// In upstream's words: what it is made from isn't there.
pub async fn of(volume: &Volume, inputs: &Inputs<'_>) -> Result<Option<Payload>, String> {
    let mut files = Files { payload: Payload::default(), default_mode: DEFAULT_MODE };
    if let Some(source) = &volume.config_map {
        files.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        files.config_map(&source.name, source.items.as_deref(), source.optional == Some(true), inputs).await?;
    } else if let Some(source) = &volume.secret {
        files.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or("");
        files.secret(name, source.items.as_deref(), source.optional == Some(true), inputs).await?;
    } else if let Some(source) = &volume.downward_api {
        files.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        files.downward(source.items.as_deref(), inputs)?;
    } else if let Some(source) = &volume.projected {
        files.default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            files.projection(projection, inputs).await?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files.payload))
}

struct Files {
    payload: Payload,
    default_mode: i32,
}

impl Files {
    async fn projection(&mut self, projection: &VolumeProjection, inputs: &Inputs<'_>) -> Result<(), String> {
        if let Some(source) = &projection.config_map {
            self.config_map(&source.name, source.items.as_deref(), source.optional == Some(true), inputs).await?;
        }
        if let Some(source) = &projection.secret {
            self.secret(&source.name, source.items.as_deref(), source.optional == Some(true), inputs).await?;
        }
        if let Some(source) = &projection.downward_api {
            self.downward(source.items.as_deref(), inputs)?;
        }
        if let Some(source) = &projection.service_account_token {
            let audience = source.audience.as_deref().unwrap_or("");
            let token = inputs.tokens.get(inputs.pod, audience, source.expiration_seconds.unwrap_or(3600)).await?;
            let owner = common_user(inputs);
            // A token is for its pod's user or group alone where that is known, as upstream has it.
            let private = owner.is_some() || super::fs_group(inputs.pod).is_some();
            let mode = if private { 0o600 } else { self.default_mode };
            self.add(&source.path, token.into_bytes(), mode, owner);
        }
        Ok(())
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        inputs: &Inputs<'_>,
    ) -> Result<(), String> {
        let Some(map) = inputs.sources.config_map(name).await else {
            return if optional { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
        };
        let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.entries(text.chain(binary).collect(), items, optional, "config")
    }

    async fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        inputs: &Inputs<'_>,
    ) -> Result<(), String> {
        let Some(secret) = inputs.sources.secret(name).await else {
            return if optional { Ok(()) } else { Err(format!("secret {name:?} not found")) };
        };
        let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.entries(data.collect(), items, optional, "secret")
    }

    fn entries(
        &mut self,
        data: BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        kind: &str,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, content) in data {
                self.add(key, content.to_vec(), self.default_mode, None);
            }
            return Ok(());
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(content) => self.add(&item.path, content.to_vec(), item.mode.unwrap_or(self.default_mode), None),
                None if optional => {}
                None => return Err(format!("references non-existent {kind} key: {}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: Option<&[DownwardAPIVolumeFile]>, inputs: &Inputs<'_>) -> Result<(), String> {
        for item in items.unwrap_or_default() {
            let value = if let Some(field) = &item.field_ref {
                fields::value(inputs.pod, &field.field_path, inputs.addresses)?
            } else if let Some(field) = &item.resource_field_ref {
                let name = field.container_name.as_deref().unwrap_or("");
                let container = container(inputs, name).ok_or_else(|| format!("container {name} not found"))?;
                let divisor = field.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
                let (cpu, memory) = (inputs.node_cpu_milli, inputs.node_memory_bytes);
                resources::field(container, &field.resource, divisor, cpu, memory)
                    .ok_or_else(|| format!("unsupported container resource : {}", field.resource))?
            } else {
                String::new()
            };
            self.add(&item.path, value.into_bytes(), item.mode.unwrap_or(self.default_mode), None);
        }
        Ok(())
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: i32, owner: Option<u32>) {
        let mode = mode.unsigned_abs() & 0o777;
        self.payload.files.insert(path.to_owned(), PayloadFile { content, mode, owner });
    }
}

fn container<'a>(inputs: &'a Inputs<'_>, name: &str) -> Option<&'a Container> {
    let spec = inputs.pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// The user as which all containers run, if they agree on one.
fn common_user(inputs: &Inputs<'_>) -> Option<u32> {
    let spec = inputs.pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}
