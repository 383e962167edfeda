//! A container's environment: its own variables with `$(VAR)` expanded, whole ConfigMaps and Secrets, fields of the pod,
//! and the Services of its namespace (upstream's `makeEnvironment`).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod};

use crate::expand::expand;
use crate::fields::{self, Addresses};
use crate::references::Sources;
use crate::resources;

/// What the environment is made from besides the container itself.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub addresses: &'a Addresses,
    pub sources: &'a dyn Sources,
    /// Of the Services that this pod is told of.
    pub service_variables: Vec<(String, String)>,
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
}

/// The variables in the order in which they are set, each name once.
///
/// # Errors
/// In upstream's words, for `CreateContainerConfigError`.
pub async fn variables(container: &Container, inputs: &Inputs<'_>) -> Result<Vec<(String, String)>, String> {
    let services: HashMap<&str, &str> =
        inputs.service_variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut env = Ordered::default();
    for source in container.env_from.iter().flatten() {
        whole_object(source, inputs, &mut env).await?;
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| {
                env.get(name).map(str::to_owned).or_else(|| services.get(name).map(|value| (*value).to_owned()))
            })),
            (_, Some(source)) => one_value(container, source, inputs).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(variable.name.clone(), value);
        }
    }
    for (name, value) in &inputs.service_variables {
        if env.get(name).is_none() {
            env.set(name.clone(), value.clone());
        }
    }
    Ok(env.list)
}

/// `envFrom`.
async fn whole_object(source: &EnvFromSource, inputs: &Inputs<'_>, env: &mut Ordered) -> Result<(), String> {
    let prefix = source.prefix.as_deref().unwrap_or("");
    let mut add = |key: &str, value: String| {
        let name = format!("{prefix}{key}");
        // A name that no environment can hold is left out, as upstream does.
        if !name.is_empty() && !name.contains('=') && !name.contains('\0') {
            env.set(name, value);
        }
    };
    if let Some(reference) = &source.config_map_ref {
        match inputs.sources.config_map(&reference.name).await {
            Some(map) => map.data.iter().flatten().for_each(|(key, value)| add(key, value.clone())),
            None if reference.optional == Some(true) => {}
            None => return Err(format!("configmap {:?} not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match inputs.sources.secret(&reference.name).await {
            Some(secret) => {
                let entries = secret.data.iter().flatten();
                entries.for_each(|(key, value)| add(key, String::from_utf8_lossy(&value.0).into_owned()));
            }
            None if reference.optional == Some(true) => {}
            None => return Err(format!("secret {:?} not found", reference.name)),
        }
    }
    Ok(())
}

/// `valueFrom`; `None` when an optional source isn't there.
async fn one_value(
    container: &Container,
    source: &EnvVarSource,
    inputs: &Inputs<'_>,
) -> Result<Option<String>, String> {
    let namespace = inputs.pod.metadata.namespace.as_deref().unwrap_or("");
    if let Some(field) = &source.field_ref {
        return fields::value(inputs.pod, &field.field_path, inputs.addresses).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        let divisor = field.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
        let other = field.container_name.as_deref().filter(|name| !name.is_empty());
        let container = other.and_then(|name| find(inputs.pod, name)).unwrap_or(container);
        let value =
            resources::field(container, &field.resource, divisor, inputs.node_cpu_milli, inputs.node_memory_bytes);
        return value.map(Some).ok_or_else(|| format!("unsupported container resource : {}", field.resource));
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = inputs.sources.config_map(&selector.name).await else {
            return if optional { Ok(None) } else { Err(format!("configmap {:?} not found", selector.name)) };
        };
        let value = map.data.as_ref().and_then(|data| data.get(&selector.key)).cloned();
        if value.is_none() && !optional {
            return Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name));
        }
        return Ok(value);
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = inputs.sources.secret(&selector.name).await else {
            return if optional { Ok(None) } else { Err(format!("secret {:?} not found", selector.name)) };
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&selector.key));
        if value.is_none() && !optional {
            return Err(format!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name));
        }
        return Ok(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()));
    }
    Ok(Some(String::new()))
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// Variables in the order of their first setting; the last value counts.
#[derive(Default)]
struct Ordered {
    list: Vec<(String, String)>,
    at: HashMap<String, usize>,
}

impl Ordered {
    fn set(&mut self, name: String, value: String) {
        match self.at.get(&name) {
            Some(&index) => self.list[index].1 = value,
            None => {
                self.at.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.at.get(name).map(|&index| self.list[index].1.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    use super::*;

    struct Fixed;

    #[async_trait]
    impl Sources for Fixed {
        async fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            let map = json!({"data": {"color": "blue", "size": "9"}});
            (name == "settings").then(|| Arc::new(serde_json::from_value(map).unwrap()))
        }
        async fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            let secret = json!({"data": {"password": "aHVudGVyMg=="}});
            (name == "login").then(|| Arc::new(serde_json::from_value(secret).unwrap()))
        }
    }

    #[tokio::test]
    async fn tables() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": []}
        }))
        .unwrap();
        let addresses = Addresses::default();
        let cases = [
            (
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)"}]}),
                Ok("A=1 B=1-$(C) K=9"),
            ),
            (json!({"env": [{"name": "A", "value": "$(K)"}]}), Ok("A=9 K=9")),
            (json!({"env": [{"name": "K", "value": "mine"}]}), Ok("K=mine")),
            (json!({"env": [{"name": "E"}]}), Ok("E= K=9")),
            (
                json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}],
                       "env": [{"name": "P_size", "value": "1$(P_color)"}]}),
                Ok("P_color=blue P_size=1blue K=9"),
            ),
            (json!({"envFrom": [{"configMapRef": {"name": "gone"}}]}), Err("configmap \"gone\" not found")),
            (json!({"envFrom": [{"configMapRef": {"name": "gone", "optional": true}}]}), Ok("K=9")),
            (
                json!({"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]}),
                Ok("P=hunter2 K=9"),
            ),
            (
                json!({"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "login", "key": "x"}}}]}),
                Err("couldn't find key x in Secret shop/login"),
            ),
            (
                json!({"env": [{"name": "P", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]}),
                Err("couldn't find key x in ConfigMap shop/settings"),
            ),
            (
                json!({"env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                Ok("N=web K=9"),
            ),
        ];
        for (mut container, expected) in cases {
            container["name"] = "c".into();
            let container: Container = serde_json::from_value(container).unwrap();
            let inputs = Inputs {
                pod: &pod,
                addresses: &addresses,
                sources: &Fixed,
                service_variables: vec![("K".into(), "9".into())],
                node_cpu_milli: 1000,
                node_memory_bytes: 1 << 30,
            };
            let got = variables(&container, &inputs).await.map(|list| {
                let list: Vec<String> = list.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
                list.join(" ")
            });
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{container:?}");
        }
    }
}
