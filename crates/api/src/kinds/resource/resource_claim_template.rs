//! Claims made for each pod.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use serde_json::Value;

use super::requests;
use crate::field::FieldErrors;
use crate::kind::Kind;
use crate::kinds::check::unchanged;
use crate::kinds::part::{schema_of, verbs};
use crate::kinds::walk::field;

pub static RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    verbs: verbs::ALL,
    default,
    validate,
    schema: schema_of::<ResourceClaimTemplate>,
    ..Kind::NONE
};

fn default(object: &mut Value) {
    if let Some(spec) = field(object, "spec").and_then(|spec| field(spec, "spec")) {
        requests::default(spec);
    }
}

fn validate(object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    requests::validate(&mut errors, "spec.spec", object.pointer("/spec/spec").unwrap_or(&Value::Null));
    if let Some(old) = old {
        unchanged(&mut errors, "spec", object, old, "/spec");
    }
    errors
}
