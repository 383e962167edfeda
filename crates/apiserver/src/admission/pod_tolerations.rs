//! `DefaultTolerationSeconds`: a pod stays five minutes on a node that went away, unless it says otherwise.

use serde_json::{Value, json};

const SECONDS: u32 = 300;

pub(super) fn admit(pod: &mut Value) {
    if !pod["spec"].is_object() {
        return;
    }
    let tolerations = list(&mut pod["spec"], "tolerations");
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let text = |toleration: &Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
        let tolerated = tolerations.iter().any(|toleration| {
            let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
            (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            }));
        }
    }
}

/// The list in a field of an object, made where it isn't one.
pub(super) fn list<'a>(object: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let slot = &mut object[field];
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("it was made an array above")
}
