//! Lifecycle hooks: postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::action::{Outcome, Target};

const USER_AGENT: &str = "kube-lifecycle/1.36";

/// Runs a hook to its end, or until `limit`.
///
/// # Errors
/// What went wrong, for the pod's events.
pub async fn run(handler: &LifecycleHandler, target: &Target, limit: Duration) -> Result<(), String> {
    let outcome = if let Some(action) = &handler.exec {
        target.exec(action, limit).await
    } else if let Some(action) = &handler.http_get {
        target.http(action, limit, USER_AGENT).await
    } else if let Some(action) = &handler.sleep {
        let wanted = Duration::from_secs(action.seconds.unsigned_abs());
        tokio::time::sleep(wanted.min(limit)).await;
        Outcome::Success
    } else if let Some(action) = &handler.tcp_socket {
        target.tcp(action, limit).await
    } else {
        Outcome::Unknown("invalid handler: no action".into())
    };
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Failure(message) | Outcome::Unknown(message) => Err(message),
    }
}
