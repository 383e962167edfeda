//! What upstream checks of a pod's volumes (`ValidateVolumes`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{descending, field_ref, no_backsteps};
use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{one_of_if_set, quantity, required, required_name};
use crate::kinds::walk::{int, list, some, text};
use crate::names;

/// Checks the list and gives the names of the volumes that are well-formed: mounts may name only these.
pub fn volumes(errors: &mut FieldErrors, path: &str, volumes: &[Value]) -> BTreeSet<String> {
    let mut well_formed = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let mut wrong = FieldErrors::new();
        source(&mut wrong, &path, volume);
        let name = text(volume, "/name");
        required_name(&mut wrong, &format!("{path}.name"), name, names::dns1123_label);
        if well_formed.contains(name) {
            wrong.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        if wrong.is_empty() {
            well_formed.insert(name.to_owned());
        }
        errors.append(&mut wrong);
    }
    well_formed
}

/// In the order in which upstream looks at them.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

fn source(errors: &mut FieldErrors, path: &str, volume: &Value) {
    let mut found = 0;
    for key in SOURCES {
        let Some(source) = volume.get(key).filter(|source| !source.is_null()) else { continue };
        found += 1;
        let path = format!("{path}.{key}");
        if found > 1 {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
            continue;
        }
        one_source(errors, &path, key, source);
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn one_source(errors: &mut FieldErrors, path: &str, key: &str, source: &Value) {
    match key {
        "emptyDir" => {
            let limit = source.get("sizeLimit").and_then(quantity);
            if limit.is_some_and(|limit| limit.sign() < 0) {
                errors.push(FieldError::forbidden(
                    format!("{path}.sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                ));
            }
        }
        "hostPath" => {
            let place = text(source, "/path");
            required(errors, &format!("{path}.path"), place);
            no_backsteps(errors, &format!("{path}.path"), place);
            one_of_if_set(errors, &format!("{path}.type"), text(source, "/type"), HOST_PATH_TYPES);
        }
        "secret" => {
            required(errors, &format!("{path}.secretName"), text(source, "/secretName"));
            mode(errors, path, source, "defaultMode");
            items(errors, path, source);
        }
        "configMap" => {
            required(errors, &format!("{path}.name"), text(source, "/name"));
            mode(errors, path, source, "defaultMode");
            items(errors, path, source);
        }
        "downwardAPI" => {
            mode(errors, path, source, "defaultMode");
            downward(errors, path, source);
        }
        "projected" => {
            mode(errors, path, source, "defaultMode");
            projections(errors, path, source);
        }
        "persistentVolumeClaim" => required(errors, &format!("{path}.claimName"), text(source, "/claimName")),
        "nfs" => {
            required(errors, &format!("{path}.server"), text(source, "/server"));
            let place = text(source, "/path");
            required(errors, &format!("{path}.path"), place);
            if !place.starts_with('/') {
                errors.push(FieldError::invalid(format!("{path}.path"), &place.into(), "must be an absolute path"));
            }
        }
        "csi" => required(errors, &format!("{path}.driver"), text(source, "/driver")),
        "ephemeral" if some(source, "/volumeClaimTemplate").is_none() => {
            errors.push(FieldError::required(format!("{path}.volumeClaimTemplate"), ""));
        }
        "image" => required(errors, &format!("{path}.reference"), text(source, "/reference")),
        _ => {}
    }
}

fn mode(errors: &mut FieldErrors, path: &str, source: &Value, key: &str) {
    if let Some(mode) = int(source, &format!("/{key}"))
        && !(0..=0o777).contains(&mode)
    {
        errors.push(FieldError::invalid(
            format!("{path}.{key}"),
            &mode.into(),
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}

/// `validateKeyToPath` for each.
fn items(errors: &mut FieldErrors, path: &str, source: &Value) {
    for (i, item) in list(source, "/items").iter().enumerate() {
        let path = format!("{path}.items[{i}]");
        required(errors, &format!("{path}.key"), text(item, "/key"));
        file(errors, &format!("{path}.path"), text(item, "/path"));
        mode(errors, &path, item, "mode");
    }
}

/// A file inside a volume. `..` leads the names that the kubelet writes for itself.
fn file(errors: &mut FieldErrors, path: &str, given: &str) {
    required(errors, path, given);
    descending(errors, path, given);
    let first = given.split('/').next().unwrap_or_default();
    if first.starts_with("..") && first != ".." {
        errors.push(FieldError::invalid(path, &given.into(), "must not start with '..'"));
    }
}

const DOWNWARD_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward(errors: &mut FieldErrors, path: &str, source: &Value) {
    for (i, item) in list(source, "/items").iter().enumerate() {
        let path = format!("{path}.items[{i}]");
        file(errors, &format!("{path}.path"), text(item, "/path"));
        match (some(item, "/fieldRef"), some(item, "/resourceFieldRef")) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                path.clone(),
                &"resource".into(),
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (Some(field), None) => field_ref(errors, &format!("{path}.fieldRef"), field, DOWNWARD_FIELDS),
            (None, Some(resource)) => {
                let path = format!("{path}.resourceFieldRef");
                required(errors, &format!("{path}.containerName"), text(resource, "/containerName"));
                required(errors, &format!("{path}.resource"), text(resource, "/resource"));
            }
            (None, None) => {
                errors.push(FieldError::required(&path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
        mode(errors, &path, item, "mode");
    }
}

fn projections(errors: &mut FieldErrors, path: &str, projected: &Value) {
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for (i, source) in list(projected, "/sources").iter().enumerate() {
        let path = format!("{path}.sources[{i}]");
        let mut found = 0;
        for key in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let Some(entry) = source.get(key).filter(|entry| !entry.is_null()) else { continue };
            found += 1;
            let path = format!("{path}.{key}");
            if found > 1 {
                errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type"));
                continue;
            }
            match key {
                "secret" | "configMap" => {
                    required(errors, &format!("{path}.name"), text(entry, "/name"));
                    items(errors, &path, entry);
                }
                "downwardAPI" => downward(errors, &path, entry),
                "serviceAccountToken" => token(errors, &path, entry),
                _ => {}
            }
            let places = list(entry, "/items").iter().map(|item| text(item, "/path"));
            for place in places.chain(Some(text(entry, "/path"))).filter(|place| !place.is_empty()) {
                if !paths.insert(place.to_owned()) {
                    errors.push(FieldError::invalid(path.clone(), &place.into(), "conflicting duplicate paths"));
                }
            }
        }
        if found == 0 {
            errors.push(FieldError::required(path, "must specify a projected volume source"));
        }
    }
}

fn token(errors: &mut FieldErrors, path: &str, token: &Value) {
    let at = format!("{path}.expirationSeconds");
    let seconds = int(token, "/expirationSeconds").unwrap_or_default();
    if seconds < 600 {
        errors.push(FieldError::invalid(&at, &seconds.into(), "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(&at, &seconds.into(), "may not specify a duration larger than 2^32 seconds"));
    }
    file(errors, &format!("{path}.path"), text(token, "/path"));
}
