//! exec and attach: a session's streams over a WebSocket, its end as a `Status` on the error channel.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::websocket::{self, CLOSE, ERROR, Pending, Protocol, RESIZE, STDERR, STDIN, STDOUT};
use super::{Answer, Server, text};
use crate::runtime::{ContainerStatus, ExecSpec, Result as RuntimeResult, Session, Size, State};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Messages under way to the client; when it doesn't read, the command waits.
const QUEUE: usize = 16;
const CHUNK_BYTES: usize = 32 * 1024;
/// How long a client may take to answer the end of a session.
const FAREWELL: Duration = Duration::from_secs(10);

#[derive(Debug, Default, PartialEq)]
struct Options {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// What the end of the client's input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputEnd {
    IsPassedOn,
    EndsSession,
}

impl InputEnd {
    /// As containerd has it: a container that takes input once gets its end, any other is left. kubectl ends its input
    /// when the user has typed the keys to detach.
    fn of_attached(container: &ContainerStatus) -> Self {
        let once = container.spec.stdin_once && !container.spec.tty;
        if once { Self::IsPassedOn } else { Self::EndsSession }
    }
}

pub(super) async fn answer(
    server: &Arc<Server>,
    pod: &Pod,
    container: &str,
    exec: bool,
    mut request: Request<Incoming>,
) -> Answer {
    let options = options(request.uri().query().unwrap_or(""));
    if !options.stdin && !options.stdout && !options.stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let Some(found) = server.containers(pod, container).into_iter().find(|status| status.state == State::Running)
    else {
        return text(StatusCode::NOT_FOUND, &format!("container not found (\"{container}\")"));
    };
    let (answer, pending) = match websocket::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(answer) => return *answer,
    };
    let runtime = Arc::clone(&server.context.runtime);
    tokio::spawn(async move {
        let session = if exec {
            let (command, tty, stdin) = (options.command.clone(), options.tty, options.stdin);
            runtime.exec(&found.id, ExecSpec { command, tty, stdin, ..ExecSpec::default() }).await
        } else {
            runtime.attach(&found.id, options.stdin).await
        };
        let at_end = if exec { InputEnd::IsPassedOn } else { InputEnd::of_attached(&found) };
        run(pending, options, at_end, session).await;
    });
    answer
}

fn options(query: &str) -> Options {
    let mut options = Options::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let on = matches!(&*value, "1" | "true");
        match &*key {
            "command" => options.command.push(value.into_owned()),
            // The API server's names and the kubelet's own.
            "input" | "stdin" => options.stdin = on,
            "output" | "stdout" => options.stdout = on,
            "error" | "stderr" => options.stderr = on,
            "tty" => options.tty = on,
            _ => {}
        }
    }
    options
}

async fn run(pending: Pending, options: Options, at_end: InputEnd, session: RuntimeResult<Session>) {
    let protocol = pending.protocol;
    let socket = match pending.stream().await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    let (sink, mut stream) = socket.split();
    let (out, messages) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write(sink, messages, protocol));
    let end = match session {
        Ok(session) => serve(session, &options, at_end, &mut stream, protocol, &out).await,
        Err(error) => Some(internal_error(&error.to_string())),
    };
    if let Some(end) = end {
        // A client that is gone by now doesn't want to know.
        let _ = out.send((ERROR, end.into_bytes())).await;
    }
    drop(out);
    // The writer ends with its channel; a panic in it has been reported already.
    let _ = writer.await;
    // What the client still sends is read until it closes too: a socket closed on unread input resets the connection,
    // and what was sent last is lost on its way.
    let farewell = async { while let Some(Ok(_)) = stream.next().await {} };
    // One that doesn't answer is cut off.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Carries data until the command ends, and says how; `None` when the client left.
async fn serve(
    session: Session,
    options: &Options,
    at_end: InputEnd,
    stream: &mut SplitStream<Socket>,
    protocol: Protocol,
    out: &mpsc::Sender<(u8, Vec<u8>)>,
) -> Option<String> {
    let Session { mut stdin, stdout, stderr, resize, exit, .. } = session;
    let stdout = options.stdout.then_some(stdout).flatten();
    let stderr = (options.stderr && !options.tty).then_some(stderr).flatten();
    let output = async { tokio::join!(copy(stdout, STDOUT, out), copy(stderr, STDERR, out)) };
    let input = async {
        while let Some(Ok(message)) = stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => text.into(),
                Message::Close(_) => return None,
                _ => continue,
            };
            match protocol.decode(&data) {
                Some((STDIN, data)) => feed(&mut stdin, &data).await,
                Some((RESIZE, data)) => {
                    if let Ok(size) = serde_json::from_slice::<TerminalSize>(&data) {
                        // A command that has ended needs no new size.
                        let _ = resize.send(Size { rows: size.height, columns: size.width }).await;
                    }
                }
                Some((CLOSE, channel)) if channel.first() == Some(&STDIN) => match at_end {
                    InputEnd::IsPassedOn => close(&mut stdin).await,
                    InputEnd::EndsSession => return Some(success()),
                },
                _ => {}
            }
        }
        None
    };
    // Output is read to its end before the exit code is told: nothing that the command said is lost.
    let ended = async {
        output.await;
        exit.await
    };
    tokio::select! {
        code = ended => Some(match code {
            Ok(0) => success(),
            Ok(code) => non_zero(code),
            Err(_) => internal_error("the container's end was not seen"),
        }),
        left = input => left,
    }
}

#[derive(Deserialize)]
struct TerminalSize {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

async fn feed(stdin: &mut Option<Box<dyn AsyncWrite + Send + Unpin>>, data: &[u8]) {
    if let Some(writer) = stdin
        && writer.write_all(data).await.is_err()
    {
        // The command has closed its end; what else comes is dropped.
        *stdin = None;
    }
}

async fn close(stdin: &mut Option<Box<dyn AsyncWrite + Send + Unpin>>) {
    if let Some(mut writer) = stdin.take() {
        // Closed by the other side already is closed too.
        let _ = writer.shutdown().await;
    }
}

async fn copy(from: Option<Box<dyn AsyncRead + Send + Unpin>>, channel: u8, out: &mpsc::Sender<(u8, Vec<u8>)>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || out.send((channel, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::Receiver<(u8, Vec<u8>)>, protocol: Protocol) {
    while let Some((channel, data)) = messages.recv().await {
        let bytes = protocol.encode(channel, &data);
        let message = if protocol.is_text() {
            Message::text(String::from_utf8_lossy(&bytes).into_owned())
        } else {
            Message::Binary(bytes)
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // The client may have left without waiting for the end.
    let _ = sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await;
}

fn success() -> String {
    json!({ "metadata": {}, "status": "Success" }).to_string()
}

/// What kubectl turns into its own exit code.
fn non_zero(code: i32) -> String {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
    .to_string()
}

fn internal_error(message: &str) -> String {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let got = options("command=sh&command=-c&command=echo+hi&input=1&output=1&tty=1");
        let command = ["sh", "-c", "echo hi"].map(str::to_owned).to_vec();
        assert_eq!(got, Options { command, stdin: true, stdout: true, stderr: false, tty: true });
    }
}
