//! `NamespaceLifecycle`: nothing is made in a namespace that isn't there or is going, and three namespaces stay.

use serde_json::Value;
use tug_api::ObjectKey;
use tug_api::kinds::core;

use super::{Operation, forbidden};
use crate::objects::Objects;
use crate::rbac::Attributes;
use crate::status::Status;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn check(
    objects: &dyn Objects,
    request: &Attributes<'_>,
    operation: Operation,
    new: Option<&Value>,
) -> Result<(), Status> {
    if request.group.is_empty() && request.resource == "namespaces" {
        if operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(forbidden(request, None, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    // A review asks a question and leaves nothing behind.
    let is_review = request.group == "authorization.k8s.io" && request.resource == "localsubjectaccessreviews";
    if request.namespace.is_empty() || operation == Operation::Delete || is_review {
        return Ok(());
    }
    let kind = &core::NAMESPACE;
    let Some(namespace) = objects.get(kind, &ObjectKey::new("", request.namespace)) else {
        return Err(Status::not_found(kind, request.namespace));
    };
    if operation != Operation::Create || namespace.meta.deletion_timestamp.is_none() {
        return Ok(());
    }
    let name = request.namespace;
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let message = format!("namespace {name} is being terminated");
    Err(forbidden(request, new, &why).with_cause("NamespaceTerminating", message, "metadata.namespace"))
}
