//! `tug image`: the cluster's image store, through its Docker socket.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_util::io::ReaderStream;

use crate::cli::{ImageArgs, ImageCommand, Output};
use crate::commands::{block_on, running, show};
use crate::preflight;

type Body = BoxBody<Bytes, std::io::Error>;

pub fn run(args: ImageArgs) -> Result<ExitCode> {
    preflight::require_root("image")?;
    match args.command {
        ImageCommand::Load { cluster, file } => {
            let socket = running(&cluster)?.paths().sockets().join("docker.sock");
            block_on(load(&socket, &file))
        }
        ImageCommand::Pull { cluster, reference } => {
            let socket = running(&cluster)?.paths().sockets().join("docker.sock");
            block_on(pull(&socket, &reference))
        }
        ImageCommand::Ls(args) => {
            let socket = running(&args.cluster)?.paths().sockets().join("docker.sock");
            block_on(list(&socket, args.output))
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn load(socket: &Path, file: &Path) -> Result<()> {
    let archive = tokio::fs::File::open(file).await.with_context(|| format!("opening {}", file.display()))?;
    let frames = ReaderStream::with_capacity(archive, 256 << 10).map_ok(Frame::data);
    let mut response = ask(socket, "POST", "/images/load", StreamBody::new(frames).boxed()).await?;
    print_lines(&mut response, |line| line["stream"].as_str().map(|text| text.trim_end().to_owned())).await
}

async fn pull(socket: &Path, reference: &str) -> Result<()> {
    // Without a tag it would be all of the repository's.
    let reference = tug_engine::images::reference::Reference::parse(reference)?.to_string();
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("fromImage", &reference).finish();
    let mut response = ask(socket, "POST", &format!("/images/create?{query}"), empty()).await?;
    print_lines(&mut response, |line| {
        let status = line["status"].as_str()?;
        match line["id"].as_str() {
            // A line a layer, not one for every kilobyte.
            Some(id) if status == "Pull complete" => Some(format!("{id}: {status}")),
            Some(_) => None,
            None => Some(status.to_owned()),
        }
    })
    .await
}

async fn list(socket: &Path, output: Output) -> Result<()> {
    let response = ask(socket, "GET", "/images/json", empty()).await?;
    let images: Vec<Value> = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    if output == Output::Json {
        return Ok(show(serde_json::to_string_pretty(&images)?)?);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["IMAGE", "IMAGE ID", "SIZE"]);
    for image in &images {
        let id: String =
            image["Id"].as_str().unwrap_or_default().trim_start_matches("sha256:").chars().take(12).collect();
        let size = indicatif::DecimalBytes(image["Size"].as_u64().unwrap_or(0)).to_string();
        for tag in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            table.add_row([tag, &id, &size]);
        }
    }
    Ok(show(table)?)
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// One request; answers of 400 and above are errors with the server's message.
async fn ask(socket: &Path, method: &str, path: &str, body: Body) -> Result<http::Response<Incoming>> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .with_context(|| format!("the cluster's image socket {} doesn't answer", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "tug").body(body)?;
    let response = sender.send_request(request).await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await?.to_bytes();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    bail!("{}", said["message"].as_str().unwrap_or("the engine refused"))
}

/// Prints what `shown` makes of each line of JSON as it comes; a line with `error` is the error.
async fn print_lines(response: &mut http::Response<Incoming>, shown: impl Fn(&Value) -> Option<String>) -> Result<()> {
    let mut rest = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line: Value = serde_json::from_slice(&line).context("reading the engine's answer")?;
            if let Some(error) = line["error"].as_str() {
                bail!("{error}");
            }
            if let Some(text) = shown(&line) {
                show(text)?;
            }
        }
    }
    Ok(())
}
