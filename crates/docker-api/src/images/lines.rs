//! Progress told as lines of JSON, in the order in which it happens.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::reply::{Body, Failure};

/// How often the same bar moves, as in Docker.
const BAR: Duration = Duration::from_millis(100);

/// Lines on their way to a client. A slow one gets each step, but of a bar's positions only the last.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Value>,
    /// When each bar last moved.
    moved: HashMap<String, Instant>,
}

impl Lines {
    pub fn add(&self, line: Value) {
        self.0.waiting.lock().lines.push_back(line);
        self.0.news.notify_one();
    }

    pub fn status(&self, id: &str, status: impl Into<String>) {
        let status = status.into();
        self.add(if id.is_empty() { json!({ "status": status }) } else { json!({ "status": status, "id": id }) });
    }

    /// A step without a bar, of something that has one.
    pub fn step(&self, id: &str, status: &str) {
        self.add(json!({ "status": status, "progressDetail": {}, "id": id }));
    }

    pub fn bar(&self, id: &str, status: &str, current: u64, total: u64) {
        let now = Instant::now();
        let mut waiting = self.0.waiting.lock();
        let recent = waiting.moved.get(id).is_some_and(|moved| now.duration_since(*moved) < BAR);
        if recent && current < total {
            return;
        }
        waiting.moved.insert(id.to_owned(), now);
        waiting.lines.retain(|line| line["id"] != id || line["status"] != status);
        let progress = drawn(current, total);
        let detail = json!({ "current": current, "total": total });
        waiting.lines.push_back(json!({ "status": status, "progressDetail": detail, "progress": progress, "id": id }));
        drop(waiting);
        self.0.news.notify_one();
    }

    async fn next(&self) -> Value {
        loop {
            let news = self.0.news.notified();
            if let Some(line) = self.0.waiting.lock().lines.pop_front() {
                return line;
            }
            news.await;
        }
    }

    fn rest(&self) -> Vec<Value> {
        self.0.waiting.lock().lines.drain(..).collect()
    }
}

/// The bar itself, which clients before 1.51 of the API print as it comes (moby, `jsonmessage`).
fn drawn(current: u64, total: u64) -> String {
    let size = |bytes: u64| {
        let mut value = bytes as f64;
        let mut unit = 0;
        while value >= 1000.0 && unit < 4 {
            value /= 1000.0;
            unit += 1;
        }
        // Go's `%.4g`.
        let whole_digits = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
        let text = format!("{value:.*}", 4_usize.saturating_sub(whole_digits));
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{text}{}", ["B", "kB", "MB", "GB", "TB"][unit])
    };
    if total == 0 || current > total {
        return format!("{:>8}", size(current));
    }
    let half = usize::try_from(current * 50 / total).unwrap_or(50);
    let (done, left) = ("=".repeat(half), " ".repeat(50 - half));
    format!("[{done}>{left}] {:>8}/{}", size(current), size(total))
}

/// An error as the last line.
pub fn error_line(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

/// Does `work` and tells what it adds to `lines`, for as long as the client listens. A failure before the first line is
/// the answer's status, a later one its last line.
pub async fn told(
    lines: Lines,
    work: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Result<Response<Body>, Failure> {
    let mut work = Box::pin(work);
    let first = tokio::select! {
        biased;
        line = lines.next() => line,
        done = &mut work => return match (lines.rest(), done) {
            (told, Err(failure)) if told.is_empty() => Err(failure),
            (mut told, done) => {
                told.extend(done.err().map(|failure| error_line(&failure.message)));
                Ok(stream(futures::stream::iter(told)))
            }
        },
    };
    let later = futures::stream::unfold((lines, Some(work)), async |(lines, work)| {
        let mut work = work?;
        tokio::select! {
            biased;
            line = lines.next() => Some((vec![line], (lines, Some(work)))),
            done = &mut work => {
                let mut last = lines.rest();
                last.extend(done.err().map(|failure| error_line(&failure.message)));
                Some((last, (lines, None)))
            }
        }
    });
    Ok(stream(futures::stream::iter([first]).chain(later.flat_map(futures::stream::iter))))
}

/// As [`told`] where even the first failure is a line.
pub async fn told_always(
    lines: Lines,
    work: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Result<Response<Body>, Failure> {
    let adding = lines.clone();
    let work = work.map(move |done| {
        if let Err(failure) = done {
            adding.add(error_line(&failure.message));
        }
        Ok(())
    });
    told(lines, work).await
}

fn stream(lines: impl Stream<Item = Value> + Send + 'static) -> Response<Body> {
    let frames = lines.map(|line| Ok::<_, io::Error>(Frame::data(Bytes::from(format!("{line}\r\n")))));
    body("application/json", StreamBody::new(sync_wrapper(frames)))
}

/// Bodies have to be shared between threads, which streams need not be.
fn sync_wrapper<T: Send + 'static>(
    stream: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> + Send + Sync {
    let stream = Mutex::new(Box::pin(stream));
    futures::stream::poll_fn(move |context| stream.lock().as_mut().poll_next(context))
}

pub fn bytes(kind: &'static str, pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response<Body> {
    body(kind, StreamBody::new(sync_wrapper(pieces.map(|piece| piece.map(Frame::data)))))
}

fn body(
    kind: &'static str,
    body: impl hyper::body::Body<Data = Bytes, Error = io::Error> + Send + Sync + 'static,
) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_as_dockers() {
        // moby's own tests of `jsonmessage` for a terminal that is wide enough.
        let blank = " ".repeat(49);
        let cases = [
            (1, 0, "      1B".to_owned()),
            (20, 100, format!("[{}>{}]      20B/100B", "=".repeat(10), " ".repeat(40))),
            (50, 100, format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25))),
            (1_234_567, 1_500_000_000, format!("[>{blank} ]  1.235MB/1.5GB")),
            (1_500_000, 50_000_000, format!("[=>{blank}]    1.5MB/50MB")),
        ];
        for (current, total, expected) in cases {
            assert_eq!(drawn(current, total), expected);
        }
    }
}
