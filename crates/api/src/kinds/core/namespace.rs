//! A room for names.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::kind::{Column, Kind, NameRule, Subresource};
use crate::kinds::cells;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{sub, text};

pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: verbs::NAMESPACE,
    subresources: &[
        Subresource { name: "finalize", kind: "Namespace", group_version: None, verbs: &["update"] },
        subresources::status("Namespace"),
    ],
    columns: &[Column::NAME, Column::text("Status", "Active, or Terminating while it's emptied."), Column::AGE],
    row,
    default,
    prepare,
    selectable: |object| vec![("status.phase", text(object, "/status/phase").to_owned())],
    selectable_names: &["status.phase"],
    schema: schema_of::<Namespace>,
    names: NameRule::DnsLabel,
    acted_on: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![cells::name(object), text(object, "/status/phase").into(), age_of(object, now)]
}

/// The label by which selectors of namespaces find one by its name.
fn default(object: &mut Value) {
    let name = text(object, "/metadata/name").to_owned();
    if !name.is_empty()
        && let Some(labels) = sub(object, "metadata").and_then(|metadata| sub(metadata, "labels"))
    {
        labels["kubernetes.io/metadata.name"] = name.into();
    }
}

/// The finalizer that holds a namespace until it's empty; only the `finalize` subresource takes it away.
fn prepare(object: &mut Value, old: Option<&Value>) {
    let Some(spec) = sub(object, "spec") else { return };
    match old {
        None => {
            spec["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        Some(old) => *spec = old.get("spec").cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_and_held() {
        let mut object = json!({"metadata": {"name": "a"}});
        prepare(&mut object, None);
        default(&mut object);
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            })
        );
        let mut update = json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}});
        prepare(&mut update, Some(&object));
        assert_eq!(update["spec"], object["spec"]);
    }
}
