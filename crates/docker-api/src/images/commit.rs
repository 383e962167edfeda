//! The image that `POST /commit` makes of a container: its configuration, and where its name goes. The container's files
//! are the caller's to read.

use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;
use tug_engine::images::reference::Reference;
use tug_engine::{Commit, Engine};

use super::{changes, repo_and_tag};
use crate::reply::Failure;

/// What a client asks.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub repo: String,
    pub tag: String,
    pub author: String,
    pub comment: String,
    /// Instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// The body, a `Config`; null when it is the container's own.
    pub config: Value,
}

/// An image to be made, checked before anybody reads the container's files.
pub struct Commission {
    tag: Option<Reference>,
    commit: Commit,
}

impl Commission {
    /// `own` is the container's `Config`.
    ///
    /// # Errors
    /// In dockerd's words when the name or a change can't be.
    pub fn new(asked: Asked, container: &str, own: &Value) -> Result<Self, Failure> {
        let tag = repo_and_tag(&asked.repo, &asked.tag)?;
        let mut config = if asked.config.is_null() { own.clone() } else { asked.config };
        changes::apply(&mut config, &asked.changes).map_err(|words| Failure::new(400, words))?;
        if let (Value::Object(config), Value::Object(own)) = (&mut config, own) {
            merge(config, own);
        }
        let words = own["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let commit = Commit {
            config,
            author: asked.author,
            comment: asked.comment,
            created_by: words.collect::<Vec<_>>().join(" "),
            container: Some((container.to_owned(), own.clone())),
            platform: None,
        };
        Ok(Self { tag, commit })
    }

    /// `layer` is an archive of what the container changed in the image `parent`, whiteouts as in images. Returns the
    /// image's id, and its name as people write it, empty when it gets none.
    ///
    /// # Errors
    /// When the parent is gone, or the archive can't be a layer.
    pub async fn carry_out(
        self,
        engine: &Engine,
        parent: &str,
        layer: NamedTempFile,
    ) -> Result<(String, String), Failure> {
        let id = engine.images().commit(Some(parent), layer, self.commit).await?;
        let Some(tag) = self.tag else { return Ok((id, String::new())) };
        engine.images().tag(&id, &tag).await?;
        Ok((id, tag.familiar()))
    }
}

/// Adds to a configuration what only the container's says (moby, `daemon/commit.go`).
fn merge(config: &mut Map<String, Value>, own: &Map<String, Value>) {
    let command_given = ["Cmd", "Entrypoint"].map(|name| config.get(name).is_some_and(|value| !is_nothing(value)));
    for (name, value) in own.iter().filter(|(_, value)| !is_nothing(value)) {
        match name.as_str() {
            "Cmd" if command_given != [false, false] => {}
            // An empty list is a choice, and none at all is not.
            "Entrypoint" if command_given[1] || config.get(name).is_some_and(Value::is_array) => {}
            "ExposedPorts" | "Labels" | "Volumes" | "Healthcheck" => {
                let given = config.entry(name).or_insert(Value::Null);
                let mut all = value.as_object().cloned().unwrap_or_default();
                let mine = given.as_object().cloned().unwrap_or_default();
                all.extend(mine.into_iter().filter(|(_, value)| name == "Labels" || !is_zero(value)));
                *given = all.into();
            }
            "Env" => merge_env(config.entry(name).or_insert_with(|| json!([])), value),
            "Cmd" | "Entrypoint" | "User" | "WorkingDir" | "StopSignal" if config.get(name).is_none_or(is_nothing) => {
                config.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
}

fn merge_env(given: &mut Value, own: &Value) {
    let mut all = given.as_array().cloned().unwrap_or_default();
    let name = |pair: &Value| pair.as_str().and_then(|pair| pair.split('=').next()).map(str::to_owned);
    for pair in own.as_array().into_iter().flatten() {
        if !all.iter().any(|other| name(other) == name(pair)) {
            all.push(pair.clone());
        }
    }
    *given = all.into();
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What a field of a health check is when nobody set it.
fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_container_says_is_added() {
        // Of moby's TestMerge, and of its rules for commands.
        let cases = [
            (
                json!({ "ExposedPorts": { "2222/tcp": {} }, "Env": ["VAR1=2", "VAR2=2"], "Volumes": { "/test3": {} } }),
                json!({
                    "ExposedPorts": { "1111/tcp": {}, "2222/tcp": {} },
                    "Env": ["VAR1=1", "VAR3=3"],
                    "Volumes": { "/test1": {}, "/test2": {} },
                }),
                json!({
                    "ExposedPorts": { "1111/tcp": {}, "2222/tcp": {} },
                    "Env": ["VAR1=2", "VAR2=2", "VAR3=3"],
                    "Volumes": { "/test1": {}, "/test2": {}, "/test3": {} },
                }),
            ),
            (json!({}), json!({ "Cmd": ["sh"], "Entrypoint": ["e"] }), json!({ "Cmd": ["sh"], "Entrypoint": ["e"] })),
            (
                json!({ "Cmd": ["x"] }),
                json!({ "Cmd": ["y"], "Entrypoint": ["e"] }),
                json!({ "Cmd": ["x"], "Entrypoint": ["e"] }),
            ),
            (json!({ "Entrypoint": ["x"] }), json!({ "Cmd": ["y"] }), json!({ "Entrypoint": ["x"] })),
            (json!({ "Entrypoint": [] }), json!({ "Entrypoint": ["e"] }), json!({ "Entrypoint": [] })),
            (json!({ "Hostname": "a" }), json!({ "Hostname": "b", "Tty": true }), json!({ "Hostname": "a" })),
            (
                json!({ "Labels": { "a": "1" }, "User": "" }),
                json!({ "Labels": { "a": "2", "b": "3" }, "User": "web" }),
                json!({ "Labels": { "a": "1", "b": "3" }, "User": "web" }),
            ),
            (
                json!({ "Healthcheck": { "Test": ["CMD", "x"], "Interval": 0 } }),
                json!({ "Healthcheck": { "Test": ["NONE"], "Interval": 5 } }),
                json!({ "Healthcheck": { "Test": ["CMD", "x"], "Interval": 5 } }),
            ),
        ];
        for (mut config, own, expected) in cases {
            let shown = config.clone();
            merge(config.as_object_mut().expect("an object"), own.as_object().expect("an object"));
            assert_eq!(config, expected, "{shown} {own}");
        }
    }
}
