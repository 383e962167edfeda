//! `Priority`: a pod's priority is computed from its PriorityClass, never taken from the client.

use serde_json::Value;
use tug_api::ObjectKey;
use tug_api::kinds::scheduling;

use super::forbidden;
use crate::objects::Objects;
use crate::rbac::Attributes;
use crate::status::Status;

const PREEMPT: &str = "PreemptLowerPriority";

pub(super) fn admit(
    objects: &dyn Objects,
    request: &Attributes<'_>,
    pod: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !pod["spec"].is_object() {
        return Ok(());
    }
    if let Some(old) = old {
        // What was computed at creation stays; a client that drops it from a PUT isn't told that it changed it.
        for field in ["priority", "preemptionPolicy"] {
            if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
                pod["spec"][field] = old["spec"][field].clone();
            }
        }
        return Ok(());
    }
    let named = pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let class = match &named {
        Some(name) => {
            let class = objects.get(&scheduling::PRIORITY_CLASS, &ObjectKey::new("", name.as_str()));
            let Some(class) = class else {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(forbidden(request, Some(pod), &why));
            };
            Some(class.value().map_err(Status::internal)?)
        }
        None => default_class(objects),
    };
    let (mut priority, mut preemption) = (0, PREEMPT.to_owned());
    if let Some(class) = class {
        priority = class["value"].as_i64().unwrap_or_default();
        if let Some(policy) = class["preemptionPolicy"].as_str() {
            preemption = policy.into();
        }
        if named.is_none() {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
    }
    if let Some(said) = pod["spec"]["priority"].as_i64().filter(|said| *said != priority) {
        let why = format!(
            "the integer value of priority ({said}) must not be provided in pod spec; \
             priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(forbidden(request, Some(pod), &why));
    }
    if let Some(said) = pod["spec"]["preemptionPolicy"].as_str().filter(|said| *said != preemption) {
        let why = format!(
            "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; \
             priority admission controller computed {preemption} from the given PriorityClass name"
        );
        return Err(forbidden(request, Some(pod), &why));
    }
    pod["spec"]["priority"] = priority.into();
    pod["spec"]["preemptionPolicy"] = preemption.into();
    Ok(())
}

/// There is at most one global default.
pub(super) fn check_class(objects: &dyn Objects, request: &Attributes<'_>, class: &Value) -> Result<(), Status> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    let Some(default) = default_class(objects) else { return Ok(()) };
    let name = default["metadata"]["name"].as_str().unwrap_or_default();
    if class["metadata"]["name"] == *name {
        return Ok(());
    }
    let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
    Err(forbidden(request, Some(class), &why))
}

/// The global default of the lowest value, should there be several.
fn default_class(objects: &dyn Objects) -> Option<Value> {
    let classes = objects.list(&scheduling::PRIORITY_CLASS, None);
    let values = classes.iter().filter_map(|class| class.value().ok());
    values.filter(|class| class["globalDefault"] == true).min_by_key(|class| class["value"].as_i64())
}
