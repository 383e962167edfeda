//! WebSocket upgrade and the channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a message names
//! its stream.

use base64::Engine as _;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Answer, text};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// In v5, followed by the channel that its sender has closed.
pub const CLOSE: u8 = 255;

/// The largest message taken: clients send 32 KiB at a time.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// In the order of preference. The oldest has no error channel that tells an exit code.
const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "v5.channel.k8s.io", base64: false },
    Protocol { name: "v4.channel.k8s.io", base64: false },
    Protocol { name: "v4.base64.channel.k8s.io", base64: true },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    base64: bool,
}

impl Protocol {
    /// A message for `channel`.
    pub fn encode(&self, channel: u8, data: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(data.len() + 1);
        if self.base64 {
            out.push(b'0' + channel);
            out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(data).as_bytes());
        } else {
            out.push(channel);
            out.extend_from_slice(data);
        }
        out.into()
    }

    pub fn is_text(&self) -> bool {
        self.base64
    }

    /// Channel and data of a message; `None` for one that isn't well formed.
    pub fn decode(&self, message: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (first, data) = message.split_first()?;
        if !self.base64 {
            return Some((*first, data.to_vec()));
        }
        Some((first.checked_sub(b'0')?, base64::engine::general_purpose::STANDARD.decode(data).ok()?))
    }
}

/// An upgrade that has been answered; the stream comes once the answer is on its way.
pub struct Pending {
    pub protocol: Protocol,
    upgrade: OnUpgrade,
}

impl Pending {
    pub async fn stream(self) -> Result<WebSocketStream<TokioIo<Upgraded>>, hyper::Error> {
        let stream = TokioIo::new(self.upgrade.await?);
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }
}

/// Answers a WebSocket handshake.
///
/// # Errors
/// The answer for a request that isn't one, or that asks for no protocol spoken here.
pub fn accept(request: &mut Request<Incoming>) -> Result<(Answer, Pending), Box<Answer>> {
    let headers = request.headers();
    let is_upgrade =
        has_token(headers, CONNECTION.as_str(), "upgrade") && has_token(headers, UPGRADE.as_str(), "websocket");
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade).cloned() else {
        return Err(Box::new(text(StatusCode::BAD_REQUEST, "you must specify a WebSocket upgrade")));
    };
    let spoken = PROTOCOLS.iter().find(|protocol| has_token(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), protocol.name));
    let Some(protocol) = spoken.copied() else {
        return Err(Box::new(text(
            StatusCode::FORBIDDEN,
            "unable to negotiate protocol: no subprotocol of the client is supported",
        )));
    };
    let mut answer =
        Response::new(Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(protocol.name));
    if let Ok(accept) = derive_accept_key(key.as_bytes()).parse() {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok((answer, Pending { protocol, upgrade: hyper::upgrade::on(request) }))
}

fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let [v5, _, base64] = PROTOCOLS else { panic!("three protocols") };
        assert_eq!(&v5.encode(STDOUT, b"hi")[..], b"\x01hi");
        assert_eq!(v5.decode(b"\x00hi"), Some((STDIN, b"hi".to_vec())));
        assert_eq!(v5.decode(b""), None);
        assert_eq!(&base64.encode(STDERR, b"hi")[..], b"2aGk=");
        assert_eq!(base64.decode(b"4aGk="), Some((RESIZE, b"hi".to_vec())));
        assert_eq!(base64.decode(b"0?"), None);
    }
}
