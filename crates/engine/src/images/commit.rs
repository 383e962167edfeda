//! New images made here: from a container's changes, and from an archive of a file system.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use crate::engine::{Error, Result};
use crate::images::catalog::{Layer, Record};
use crate::images::load::take_blob;
use crate::images::platform::Platform;
use crate::images::reference::Reference;
use crate::images::store::{Claim, Shared, no_such_image};
use crate::images::{Images, blocking, disk_failed, failed};

/// The archive of no files: a layer of it is none.
const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// What an image is made of besides its parent.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// How containers of it run, with the fields of Docker's `Config`.
    pub config: Value,
    pub author: String,
    pub comment: String,
    /// The command whose changes these are, for the history.
    pub created_by: String,
    /// The container's id, and its own configuration.
    pub container: Option<(String, Value)>,
    /// The parent's, or this host's.
    pub platform: Option<Platform>,
}

impl Images {
    /// Records an image that has one layer more than `parent`: `layer` is an archive, plain or compressed, with
    /// whiteouts as images have them. It has no name yet. Its id.
    ///
    /// # Errors
    /// When there is no such parent, or the archive isn't one that a layer may be.
    pub async fn commit(&self, parent: Option<&str>, layer: NamedTempFile, commit: Commit) -> Result<String> {
        let parent = parent.map(str::to_owned);
        let id = make(self.shared.clone(), parent, layer, commit).await?;
        self.shared.tell("create", &id, &id, &id);
        Ok(id)
    }

    /// Makes an image of one layer, and gives it a name. Its id.
    ///
    /// # Errors
    /// As [`Images::commit`].
    pub async fn import(&self, layer: NamedTempFile, commit: Commit, tag: Option<&Reference>) -> Result<String> {
        let id = make(self.shared.clone(), None, layer, commit).await?;
        if let Some(tag) = tag {
            self.tag(&id, tag).await?;
        }
        self.shared.tell("import", &id, &id, &id);
        Ok(id)
    }
}

async fn make(shared: Arc<Shared>, parent: Option<String>, layer: NamedTempFile, commit: Commit) -> Result<String> {
    let making = shared.clone();
    let (record, claim) = blocking(move || {
        let mut claim = making.claim();
        match prepare(&making, &mut claim, parent, &layer, commit) {
            Ok(record) => Ok((record, claim)),
            Err(error) => {
                claim.abandon();
                Err(error)
            }
        }
    })
    .await?;
    let id = record.id.clone();
    shared.record(record).await?;
    drop(claim);
    Ok(id)
}

fn prepare(
    shared: &Shared,
    claim: &mut Claim,
    parent: Option<String>,
    archive: &NamedTempFile,
    commit: Commit,
) -> Result<Record> {
    let below = parent.as_ref().map(|id| {
        let catalog = shared.catalog.lock();
        catalog.records.get(id).cloned().ok_or_else(|| no_such_image(id))
    });
    let below = below.transpose()?;
    let mut layers = below.as_ref().map(|record| record.layers.clone()).unwrap_or_default();
    for layer in &layers {
        claim.add(&layer.diff_id);
        claim.add(&layer.blob);
    }
    let layer = take_layer(shared, claim, archive)?;
    let mut document = match &below {
        Some(record) => read_document(shared, &record.id)?,
        None => Map::new(),
    };
    describe(&mut document, &commit, layer.as_ref())?;
    layers.extend(layer);

    let text = serde_json::to_vec(&document).map_err(failed("writing the configuration"))?;
    let write = || -> std::io::Result<NamedTempFile> {
        let file = NamedTempFile::new_in(shared.scratch())?;
        std::fs::write(file.path(), &text)?;
        Ok(file)
    };
    let file = write().map_err(disk_failed("writing the configuration"))?;
    let id = take_blob(shared, claim, file.path(), None)?;
    // Read back as any image's is: what can't be read isn't recorded.
    shared.configuration(&id).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Record {
        id,
        layers,
        tags: Default::default(),
        digests: Default::default(),
        local: true,
        created: SystemTime::now(),
        parent,
        tagged: None,
        removed: false,
    })
}

/// Nothing when there is nothing in it.
fn take_layer(shared: &Shared, claim: &mut Claim, archive: &NamedTempFile) -> Result<Option<Layer>> {
    // A temporary file is for its maker alone, a blob is as other blobs are.
    archive.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(disk_failed("storing a blob"))?;
    let blob = take_blob(shared, claim, archive.path(), None)?;
    if blob == EMPTY {
        return Ok(None);
    }
    let layer = shared.unpack_new(claim, &blob)?;
    Ok(Some(layer).filter(|layer| layer.diff_id != EMPTY))
}

fn read_document(shared: &Shared, id: &str) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(shared.blob(id)?).map_err(disk_failed("reading the parent's configuration"))?;
    serde_json::from_slice(&bytes).map_err(failed("reading the parent's configuration"))
}

/// Turns the parent's configuration into that of its child (moby, `NewChildImage`).
fn describe(document: &mut Map<String, Value>, commit: &Commit, layer: Option<&Layer>) -> Result<()> {
    let host = Platform::host();
    let now = jiff::Timestamp::now().to_string();
    let mut history = list(document.get("history"))?;
    let mut diff_ids = list(document.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")))?;
    let is_empty = layer.is_none();
    let entry = json!({
        "created": now,
        "author": some(&commit.author),
        "created_by": some(&commit.created_by),
        "comment": some(&commit.comment),
        "empty_layer": is_empty.then_some(true),
    });
    history.push(without_nulls(entry));
    diff_ids.extend(layer.map(|layer| Value::from(layer.diff_id.clone())));

    let from_parent = ["architecture", "variant", "os", "os.version", "os.features"];
    document.retain(|name, _| from_parent.contains(&name.as_str()));
    match &commit.platform {
        Some(platform) => {
            document.insert("os".into(), platform.os.clone().into());
            document.insert("architecture".into(), platform.architecture.clone().into());
            if let Some(variant) = &platform.variant {
                document.insert("variant".into(), variant.clone().into());
            }
        }
        None => {
            document.entry("os").or_insert_with(|| host.os.into());
            document.entry("architecture").or_insert_with(|| host.architecture.into());
        }
    }
    let own = json!({
        "created": now,
        "author": some(&commit.author),
        "comment": commit.container.is_none().then(|| some(&commit.comment)),
        "container": commit.container.as_ref().map(|(id, _)| id),
        "container_config": commit.container.as_ref().map(|(_, config)| config),
        "config": if commit.config.is_null() { json!({}) } else { commit.config.clone() },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    if let Value::Object(own) = without_nulls(own) {
        document.extend(own);
    }
    Ok(())
}

fn list(value: Option<&Value>) -> Result<Vec<Value>> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(Error::Invalid("the parent's configuration isn't an image's".into())),
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    value
}
