//! Discovery documents, from the table of kinds.

use serde_json::Value;

/// `/api`. `address` is the server's own, `host:port`.
pub fn core_versions(address: &str) -> Value {
    let _ = address;
    todo!()
}

/// `/apis`: an `APIGroupList`.
pub fn groups() -> Value {
    todo!()
}

/// `/apis/{group}`: an `APIGroup`.
pub fn group(group: &str) -> Option<Value> {
    let _ = group;
    todo!()
}

/// `/api/v1` (group empty) or `/apis/{group}/{version}`: an `APIResourceList`.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let (_, _) = (group, version);
    todo!()
}

/// `/api` in aggregated form (`apidiscovery.k8s.io/v2`, `APIGroupDiscoveryList`).
pub fn aggregated_core() -> Value {
    todo!()
}

/// `/apis` in aggregated form.
pub fn aggregated_groups() -> Value {
    todo!()
}
