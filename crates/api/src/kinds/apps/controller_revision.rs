//! A workload's earlier shape.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE};
use crate::kinds::check::unchanged;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::{count, flag, list, some, text};

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    verbs: verbs::ALL,
    columns: &[
        Column::NAME,
        Column::text("Controller", "The workload whose shape this was."),
        Column::text("Revision", "Which of its shapes: later ones have greater numbers."),
        Column::AGE,
    ],
    row,
    validate,
    schema: schema_of::<ControllerRevision>,
    acted_on: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = list(object, "/metadata/ownerReferences").iter().find(|owner| flag(owner, "/controller"));
    let controller = owner.map_or(NONE.to_owned(), |owner| {
        let kind = text(owner, "/kind").to_lowercase();
        let group =
            text(owner, "/apiVersion").split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        format!("{kind}{group}/{}", text(owner, "/name"))
    });
    vec![cells::name(object), controller.into(), count(object, "/revision").into(), age_of(object, now)]
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if some(object, "/data").is_none() {
        errors.push(FieldError::required("data", "data is mandatory"));
    }
    if count(object, "/revision") < 0 {
        let revision = count(object, "/revision");
        errors.push(FieldError::invalid("revision", &revision.into(), crate::kinds::check::NOT_NEGATIVE));
    }
    if let Some(old) = old {
        unchanged(&mut errors, "data", object, old, "/data");
    }
    errors
}
