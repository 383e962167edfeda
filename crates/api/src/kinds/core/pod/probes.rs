//! What upstream checks of probes and lifecycle hooks: each has exactly one handler, and the handler is whole.

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{invalid, not_negative, one_of_if_set, port, required};
use crate::kinds::walk::{count, int, list, some, text};
use crate::names;

pub fn of_container(errors: &mut FieldErrors, path: &str, container: &Value, grace_period: i64) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = some(container, &format!("/{key}")) else { continue };
        let path = format!("{path}.{key}");
        handler(errors, &path, probe, grace_period);
        for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            not_negative(errors, &path, probe, number);
        }
        let grace = int(probe, "/terminationGracePeriodSeconds");
        if let Some(seconds) = grace
            && seconds <= 0
        {
            errors.push(FieldError::invalid(
                format!("{path}.terminationGracePeriodSeconds"),
                &seconds.into(),
                "must be greater than 0",
            ));
        }
        if key == "readinessProbe" {
            if let Some(seconds) = grace {
                errors.push(FieldError::invalid(
                    format!("{path}.terminationGracePeriodSeconds"),
                    &seconds.into(),
                    "must not be set for readinessProbes",
                ));
            }
        } else if count(probe, "/successThreshold") != 1 {
            let threshold = count(probe, "/successThreshold");
            errors.push(FieldError::invalid(format!("{path}.successThreshold"), &threshold.into(), "must be 1"));
        }
    }
}

pub fn lifecycle(errors: &mut FieldErrors, path: &str, lifecycle: &Value, grace_period: i64) {
    for key in ["postStart", "preStop"] {
        if let Some(hook) = some(lifecycle, &format!("/{key}")) {
            handler(errors, &format!("{path}.{key}"), hook, grace_period);
        }
    }
}

fn handler(errors: &mut FieldErrors, path: &str, handler: &Value, grace_period: i64) {
    let mut handlers = 0;
    for key in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = some(handler, &format!("/{key}")) else { continue };
        let path = format!("{path}.{key}");
        handlers += 1;
        if handlers > 1 {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type"));
            continue;
        }
        match key {
            "exec" if list(action, "/command").is_empty() => {
                errors.push(FieldError::required(format!("{path}.command"), ""));
            }
            "exec" => {}
            "httpGet" => http_get(errors, &path, action),
            "sleep" => {
                let seconds = count(action, "/seconds");
                if !(0..=grace_period).contains(&seconds) {
                    let message =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_period})");
                    errors.push(FieldError::invalid(path, &seconds.into(), &message));
                }
            }
            _ => port(errors, &format!("{path}.port"), action.get("port")),
        }
    }
    if handlers == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(errors: &mut FieldErrors, path: &str, action: &Value) {
    required(errors, &format!("{path}.path"), text(action, "/path"));
    port(errors, &format!("{path}.port"), action.get("port"));
    one_of_if_set(errors, &format!("{path}.scheme"), text(action, "/scheme"), &["HTTP", "HTTPS"]);
    for header in list(action, "/httpHeaders") {
        let name = text(header, "/name");
        invalid(errors, &format!("{path}.httpHeaders"), name, names::http_header_name(name));
    }
}
