//! Lifecycle hooks: postStart and preStop, with the messages of upstream's handler runner.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, LifecycleHandler, Pod};

use crate::action::{GetError, Target};
use crate::pod;

/// Runs a hook to its end, or until `limit`.
///
/// # Errors
/// What went wrong, for the container's status: it may hold secrets, so events leave it out.
pub async fn run(handler: &LifecycleHandler, pod: &Pod, target: &Target, limit: Duration) -> Result<(), String> {
    let whose = format!("for Container {:?} in Pod {:?}", target.container.name, pod::full_name(pod));
    if let Some(action) = &handler.exec {
        exec(action, target, limit, &whose).await
    } else if let Some(action) = &handler.http_get {
        http_get(action, target, limit, &whose).await
    } else if let Some(action) = &handler.sleep {
        let wanted = Duration::from_secs(action.seconds.unsigned_abs());
        tokio::time::sleep(wanted.min(limit)).await;
        Ok(())
    } else {
        Err("Cannot run handler: invalid handler".into())
    }
}

async fn exec(action: &ExecAction, target: &Target, limit: Duration, whose: &str) -> Result<(), String> {
    let command = action.command.clone().unwrap_or_default();
    let (error, output) = match target.exec(command.clone(), limit).await {
        Some(Ok(output)) if output.exit_code == 0 => return Ok(()),
        Some(Ok(output)) => {
            let (code, stderr) = (output.exit_code, &output.stderr);
            (format!("command '{}' exited with {code}: {stderr}", command.join(" ")), output.both())
        }
        Some(Err(error)) => (error.to_string(), String::new()),
        None => (format!("command {:?} timed out", command.join(" ")), String::new()),
    };
    let command = command.join(" ");
    Err(format!("Exec lifecycle hook ([{command}]) {whose} failed - error: {error}, message: {output:?}"))
}

/// Any answer will do: upstream doesn't look at its status.
async fn http_get(action: &HTTPGetAction, target: &Target, limit: Duration, whose: &str) -> Result<(), String> {
    match target.get(action, limit, "lifecycle").await {
        Ok(_) => Ok(()),
        Err(GetError::Invalid(error) | GetError::Failed(error)) => {
            let path = action.path.as_deref().unwrap_or("");
            Err(format!("HTTP lifecycle hook ({path}) {whose} failed - error: {error}"))
        }
    }
}
