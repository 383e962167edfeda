//! A storage driver.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::{Value, json};

use crate::columns::age_of;
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE, UNSET, or};
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{fill, fill_zero, flag, list, sub, text};

pub static CSI_DRIVER: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired", "Whether its volumes are attached to nodes first."),
        Column::boolean("PodInfoOnMount", "Whether it's told about the pod."),
        Column::boolean("StorageCapacity", "Whether it says how much is left."),
        Column::text("TokenRequests", "Which tokens it gets."),
        Column::boolean("RequiresRepublish", "Whether its volumes are published again and again."),
        Column::text("Modes", "How its volumes may live."),
        Column::AGE,
    ],
    row,
    default,
    schema: schema_of::<CSIDriver>,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let tokens: Vec<&str> =
        list(object, "/spec/tokenRequests").iter().map(|request| text(request, "/audience")).collect();
    let modes: Vec<&str> = list(object, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    vec![
        cells::name(object),
        flag(object, "/spec/attachRequired").into(),
        flag(object, "/spec/podInfoOnMount").into(),
        flag(object, "/spec/storageCapacity").into(),
        or(&tokens.join(","), UNSET),
        flag(object, "/spec/requiresRepublish").into(),
        or(&modes.join(","), NONE),
        age_of(object, now),
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    fill(spec, "attachRequired", true);
    fill(spec, "podInfoOnMount", false);
    fill(spec, "storageCapacity", false);
    fill(spec, "requiresRepublish", false);
    fill(spec, "seLinuxMount", false);
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    fill_zero(spec, "volumeLifecycleModes", json!(["Persistent"]));
}
