//! `/containerLogs`: a container's log, with kubectl's options.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Answer, Server, text};
use crate::runtime::{LogLine, LogOptions, State};

/// A request's options.
#[derive(Debug, Default, PartialEq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    limit_bytes: Option<u64>,
    tail: Option<u64>,
    since: Option<SystemTime>,
    stream: Option<crate::runtime::Stream>,
}

pub(super) async fn answer(server: &Arc<Server>, pod: &Pod, container: &str, request: &Request<Incoming>) -> Answer {
    let options = match options(request.uri().query().unwrap_or(""), SystemTime::now()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, &message),
    };
    let mut containers = server.containers(pod, container);
    containers.retain(|container| container.state != State::Created);
    let waiting = waiting_reason(pod, container);
    // While a container waits for its next start, the last one counts as the previous one.
    let waits = waiting.is_some() && containers.first().is_some_and(|newest| newest.state == State::Exited);
    let found = if options.previous && !waits { containers.get(1) } else { containers.first() };
    let Some(found) = found else {
        let whose = format!("container {container:?} in pod {:?}", crate::pod::name(pod));
        // Upstream's words, which kubectl shows as they are.
        let message = match (options.previous, waiting.as_deref()) {
            (true, _) => format!("previous terminated {whose} not found"),
            (_, Some("ErrImagePull")) => format!("{whose} is waiting to start: image can't be pulled"),
            (_, Some("ImagePullBackOff")) => format!("{whose} is waiting to start: trying and failing to pull image"),
            (_, Some(reason)) => format!("{whose} is waiting to start: {reason}"),
            (_, None) => format!("{whose} is not available"),
        };
        return text(StatusCode::BAD_REQUEST, &message);
    };
    let wanted = LogOptions { follow: options.follow, tail: options.tail, since: options.since, until: None };
    let lines = match server.context.runtime.logs(&found.id, wanted) {
        Ok(lines) => lines,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let mut left = options.limit_bytes;
    let (timestamps, only) = (options.timestamps, options.stream);
    let frames = lines
        .map_err(std::io::Error::other)
        .try_filter(move |line| std::future::ready(only.is_none_or(|only| line.stream == only)))
        .map_ok(move |line| render(line, timestamps))
        .try_take_while(move |_| std::future::ready(Ok(left != Some(0))))
        .map_ok(move |mut bytes| {
            if let Some(left) = &mut left {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
            }
            Frame::data(bytes)
        });
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    answer
}

fn render(line: LogLine, timestamps: bool) -> Bytes {
    if !timestamps {
        return line.text;
    }
    let time = Timestamp::try_from(line.time).unwrap_or(Timestamp::UNIX_EPOCH);
    [time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string().as_bytes(), b" ", &line.text].concat().into()
}

fn waiting_reason(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref();
    let lists = status.map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    let found =
        lists.into_iter().flatten().flat_map(|list| list.iter().flatten()).find(|known| known.name == container);
    let waiting = found?.state.as_ref()?.waiting.as_ref()?;
    Some(waiting.reason.clone().unwrap_or_default())
}

fn options(query: &str, now: SystemTime) -> Result<Options, String> {
    let mut options = Options::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let flag = || value.parse::<bool>().map_err(|_| format!("invalid value for {key}: {value:?}"));
        let number = || value.parse::<u64>().map_err(|_| format!("invalid value for {key}: {value:?}"));
        match &*key {
            "follow" => options.follow = flag()?,
            "previous" => options.previous = flag()?,
            "timestamps" => options.timestamps = flag()?,
            "limitBytes" => options.limit_bytes = Some(number()?),
            "tailLines" => options.tail = Some(number()?),
            "sinceSeconds" => options.since = now.checked_sub(Duration::from_secs(number()?)),
            "sinceTime" => {
                let time: Timestamp = value.parse().map_err(|_| format!("invalid value for {key}: {value:?}"))?;
                options.since = Some(time.into());
            }
            "stream" => {
                options.stream = match &*value {
                    "All" | "" => None,
                    "Stdout" => Some(crate::runtime::Stream::Stdout),
                    "Stderr" => Some(crate::runtime::Stream::Stderr),
                    other => return Err(format!("invalid value for stream: {other:?}")),
                };
            }
            _ => {}
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let cases = [
            ("", Ok(Options::default())),
            ("follow=true&tailLines=5", Ok(Options { follow: true, tail: Some(5), ..Options::default() })),
            ("sinceSeconds=10", Ok(Options { since: at(990), ..Options::default() })),
            ("sinceTime=1970-01-01T00%3A01%3A00Z", Ok(Options { since: at(60), ..Options::default() })),
            ("tailLines=x", Err("invalid value for tailLines: \"x\"".to_owned())),
        ];
        for (query, expected) in cases {
            assert_eq!(options(query, now), expected, "{query}");
        }
    }
}
