//! `grpc.health.v1.Health/Check`, in the words of upstream's prober.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Outcome, Target, authority, connect};
use crate::task::AbortOnDrop;

/// A health answer has a few bytes.
const BODY_BYTES: usize = 10 * 1024;
/// gRPC's status codes by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// `HealthCheckResponse.ServingStatus` by number.
const SERVING_STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// How a server answered.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Status(u8),
    /// gRPC's code and message.
    Refused(usize, String),
    /// The connection broke.
    Broken(String),
}

impl Target {
    pub async fn grpc(&self, action: &GRPCAction, limit: Duration) -> Outcome {
        let (host, port) = match self.place(None, &IntOrString::Int(action.port)) {
            Ok(place) => place,
            Err(message) => return Outcome::Unknown(message),
        };
        let whom = authority(&host, port);
        let service = action.service.as_deref().unwrap_or("");
        let checked = tokio::time::timeout(limit, async {
            let stream = connect(&host, port, limit).await.ok()?;
            Some(check(stream, &whom, service).await.unwrap_or_else(Health::Broken))
        });
        match checked.await {
            Ok(None) => Outcome::Failure(format!(
                "timeout: failed to connect service {whom:?} within {}s: context deadline exceeded",
                limit.as_secs()
            )),
            Ok(Some(health)) => outcome(health, limit),
            Err(_) => outcome(Health::Refused(4, String::new()), limit),
        }
    }
}

fn outcome(health: Health, limit: Duration) -> Outcome {
    Outcome::Failure(match health {
        Health::Status(1) => return Outcome::Success,
        Health::Status(status) => {
            let name = SERVING_STATUSES.get(usize::from(status)).copied().unwrap_or("UNKNOWN");
            format!("service unhealthy (responded with {name:?})")
        }
        Health::Refused(4, _) => format!("timeout: health rpc did not complete within {}s", limit.as_secs()),
        Health::Refused(12, message) => {
            format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}")
        }
        Health::Refused(code, message) => {
            let name = CODES.get(code).copied().unwrap_or("Unknown");
            format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
        }
        Health::Broken(message) => {
            format!("error: health rpc probe failed: rpc error: code = Unavailable desc = {message}")
        }
    })
}

async fn check(stream: tokio::net::TcpStream, whom: &str, service: &str) -> Result<Health, String> {
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let _driver = AbortOnDrop(tokio::spawn(connection));
    let request = http::Request::post(format!("http://{whom}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", super::http_get::user_agent("probe"))
        .body(Full::new(Bytes::from(frame(service)?)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let in_head = answer.headers().clone();
    let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or(in_head);
    let header = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    match header("grpc-status").as_str() {
        "" | "0" => {}
        code => return Ok(Health::Refused(code.parse().unwrap_or(2), header("grpc-message"))),
    }
    // HealthCheckResponse { ServingStatus status = 1; }: absent means 0, UNKNOWN.
    Ok(Health::Status(match body.to_bytes().get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }))
}

/// `HealthCheckRequest { string service = 1; }` behind gRPC's five-byte frame head.
fn frame(service: &str) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    if !service.is_empty() {
        let length = u8::try_from(service.len()).ok().filter(|length| *length < 128);
        message.extend_from_slice(&[0x0a, length.ok_or("service name too long")?]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let cases = [
            (Health::Status(2), "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                Health::Refused(5, "unknown service".into()),
                "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
            ),
            (
                Health::Refused(12, "no".into()),
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no",
            ),
            (Health::Refused(4, String::new()), "timeout: health rpc did not complete within 1s"),
        ];
        for (health, message) in cases {
            assert_eq!(outcome(health, Duration::from_secs(1)), Outcome::Failure(message.into()));
        }
        assert_eq!(outcome(Health::Status(1), Duration::from_secs(1)), Outcome::Success);
    }

    #[test]
    fn frames() {
        assert_eq!(frame("").unwrap(), [0, 0, 0, 0, 0]);
        assert_eq!(frame("ab").unwrap(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(frame(&"x".repeat(200)).is_err());
    }
}
