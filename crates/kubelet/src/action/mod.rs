//! What probes and lifecycle hooks do: run a command, ask over HTTP or gRPC, open a TCP connection.

mod grpc;
mod http_get;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::runtime::{ExecOutput, Runtime, RuntimeError};

pub use http_get::{Answer, GetError};

/// How an action went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Good enough, and something to tell.
    Warning(String),
    /// What the event says after `… probe failed: `.
    Failure(String),
    /// It couldn't be tried.
    Unknown(String),
}

/// The container that an action is about.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub container_id: String,
    pub container: Container,
    pub address: Option<IpAddr>,
}

impl Target {
    /// `None` when the command took longer than `limit`.
    pub async fn exec(&self, command: Vec<String>, limit: Duration) -> Option<Result<ExecOutput, RuntimeError>> {
        tokio::time::timeout(limit, self.runtime.exec_sync(&self.container_id, command)).await.ok()
    }

    pub async fn tcp(&self, action: &TCPSocketAction, limit: Duration) -> Outcome {
        let (host, port) = match self.place(action.host.as_deref(), &action.port) {
            Ok(place) => place,
            Err(message) => return Outcome::Unknown(message),
        };
        match connect(&host, port, limit).await {
            Ok(_) => Outcome::Success,
            Err(message) => Outcome::Failure(message),
        }
    }

    /// Host and port, which may be one of the container's by name.
    fn place(&self, host: Option<&str>, port: &IntOrString) -> Result<(String, u16), String> {
        let port = match port {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named = ports.into_iter().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        let number = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let number = number.ok_or_else(|| format!("invalid port number: {}", port.unwrap_or_default()))?;
        let host = match host.filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None => self.address.ok_or("the pod has no address yet")?.to_string(),
        };
        Ok((host, number))
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let whom = authority(host, port);
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Err(_) => Err(format!("dial tcp {whom}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {whom}: connect: {}", go_words(&error))),
        Ok(Ok(stream)) => {
            // A probe a second must not leave a closed connection a second behind, as upstream.
            stream.set_zero_linger().map_err(|error| error.to_string())?;
            Ok(stream)
        }
    }
}

/// `connection refused`, not `Connection refused (os error 111)`.
fn go_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
