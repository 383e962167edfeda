//! What upstream's default admission plugins add to an object on its way in, and what they refuse. One file a plugin, one
//! line in [`admit`].

mod certificate_request;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod pod_priority;
mod pod_tolerations;
mod service_account;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use service_account::wait_for_account;

use crate::auth::Access;
use crate::rbac::{Attributes, check_escalation};
use crate::status::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// Runs after authorization, on the defaulted object, before validation and the write. `new` is `None` on delete, `old` on
/// create.
///
/// # Errors
/// 403 or 404 in upstream's words.
pub fn admit(
    access: &Access,
    request: &Attributes<'_>,
    operation: Operation,
    new: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let objects = &*access.objects;
    namespace_lifecycle::check(objects, request, operation, new.as_deref())?;
    node_restriction::check(objects, request, operation, new.as_deref(), old)?;
    let Some(new) = new else { return Ok(()) };
    check_escalation(&access.authorizer, request, new, old)?;
    if request.group.is_empty() && request.resource == "pods" && request.subresource.is_empty() {
        if operation == Operation::Create {
            service_account::admit(objects, request, new)?;
        }
        pod_tolerations::admit(new);
        pod_priority::admit(objects, request, new, old)?;
    }
    if operation == Operation::Create && request.group.is_empty() && request.resource == "nodes" {
        node_taint::admit(new);
    }
    if operation == Operation::Create && request.resource == "certificatesigningrequests" {
        certificate_request::admit(request.user, new);
    }
    if operation == Operation::Create && request.resource == "priorityclasses" {
        pod_priority::check_class(objects, request, new)?;
    }
    Ok(())
}

/// The refusal of a plugin: `pods "x" is forbidden: {why}`.
fn forbidden(request: &Attributes<'_>, object: Option<&Value>, why: &str) -> Status {
    Status::forbidden(request.group, request.resource, name(request, object), why)
}

/// What upstream calls an object whose name may not have been made up yet.
fn name<'a>(request: &Attributes<'a>, object: Option<&'a Value>) -> &'a str {
    let said = |field: &str| object.and_then(|object| object["metadata"][field].as_str()).filter(|s| !s.is_empty());
    match request.name {
        "" => said("name").or_else(|| said("generateName")).unwrap_or("Unknown"),
        name => name,
    }
}
