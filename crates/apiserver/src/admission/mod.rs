//! What upstream's default admission plugins add to an object on its way in, and what they refuse.

use serde_json::Value;

use crate::auth::Access;
use crate::rbac::Attributes;
use crate::status::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// Runs after authorization, on the defaulted object, before validation and the write. `new` is `None` on delete, `old` on
/// create. The answer is warnings for the client.
///
/// # Errors
/// 403 or 404 in upstream's words.
pub fn admit(
    access: &Access,
    request: &Attributes<'_>,
    operation: Operation,
    new: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<Vec<String>, Status> {
    if let (Some(new), Operation::Create | Operation::Update) = (new, operation) {
        crate::rbac::check_escalation(&access.authorizer, request, new, old)?;
    }
    Ok(Vec::new())
}
