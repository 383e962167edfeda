//! How many requests of a sort at once.

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use serde_json::Value;

use crate::columns::age_of;
use crate::field::{FieldError, FieldErrors};
use crate::kind::{Column, Kind};
use crate::kinds::cells::{self, NONE};
use crate::kinds::check::one_of;
use crate::kinds::part::{schema_of, subresources, verbs};
use crate::kinds::walk::{field, fill, fill_zero, int, some, sub, text};

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    namespaced: false,
    verbs: verbs::ALL,
    subresources: &[subresources::status("PriorityLevelConfiguration")],
    columns: &[
        Column::NAME,
        Column::text("Type", "Limited or Exempt."),
        Column::text("NominalConcurrencyShares", "Its share of the server."),
        Column::text("Queues", "How many queues it has."),
        Column::text("HandSize", "How many queues a flow may use."),
        Column::text("QueueLengthLimit", "How many requests a queue holds."),
        Column::AGE,
    ],
    row,
    default,
    validate,
    schema: schema_of::<PriorityLevelConfiguration>,
    has_generation: true,
    ..Kind::NONE
};

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let number = |pointer: &str| int(object, pointer).map_or(Value::from(NONE), |number| number.to_string().into());
    let queuing = "/spec/limited/limitResponse/queuing";
    vec![
        cells::name(object),
        text(object, "/spec/type").into(),
        int(object, "/spec/limited/nominalConcurrencyShares").map_or(Value::from(NONE), Value::from),
        number(&format!("{queuing}/queues")),
        number(&format!("{queuing}/handSize")),
        number(&format!("{queuing}/queueLengthLimit")),
        age_of(object, now),
    ]
}

fn default(object: &mut Value) {
    let Some(spec) = sub(object, "spec") else { return };
    if text(spec, "/type") == "Exempt" {
        if let Some(exempt) = sub(spec, "exempt") {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        return;
    }
    let Some(limited) = field(spec, "limited") else { return };
    fill(limited, "nominalConcurrencyShares", 30);
    fill(limited, "lendablePercent", 0);
    let Some(queuing) = field(limited, "limitResponse").and_then(|response| field(response, "queuing")) else { return };
    fill_zero(queuing, "handSize", 8);
    fill_zero(queuing, "queues", 64);
    fill_zero(queuing, "queueLengthLimit", 50);
}

fn validate(object: &Value, _old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let r#type = text(object, "/spec/type");
    one_of(&mut errors, "spec.type", r#type, &["Exempt", "Limited"]);
    let limited = some(object, "/spec/limited");
    match (r#type, limited) {
        ("Limited", None) => {
            errors.push(FieldError::required("spec.limited", "must not be empty when type is Limited"))
        }
        ("Exempt", Some(_)) => {
            errors.push(FieldError::forbidden("spec.limited", "must be nil if the type is not Limited"))
        }
        ("Limited", Some(limited)) => {
            let response = text(limited, "/limitResponse/type");
            one_of(&mut errors, "spec.limited.limitResponse.type", response, &["Queue", "Reject"]);
        }
        _ => {}
    }
    errors
}
