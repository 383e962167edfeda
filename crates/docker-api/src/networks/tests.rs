//! In network namespaces of their own, which stand for a host, its outside and containers. Words and shapes are moby's.

use std::net::{Ipv4Addr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use tug_network::dial::runtime_in_netns;

use super::*;
use crate::testing::Namespace;

mod containers;
mod documents;

/// A host with an uplink, and the networks that are run on it.
struct Host {
    namespace: Namespace,
    outside: Namespace,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    networks: Networks,
    events: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn new() -> Self {
        let (namespace, outside) = (Namespace::new(), Namespace::new());
        namespace.uplink(&outside, "uplink", "192.0.2.1/24", "192.0.2.9/24");
        let runtime = runtime_in_netns(Some(&namespace.path()), 2).expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("resolv.conf"), "nameserver 192.0.2.9\nsearch lan\noptions edns0\n")
            .expect("written");
        std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost the-host\n").expect("written");
        let events = Arc::default();
        let networks = open(&runtime, dir.path(), &events);
        let host = Self { namespace, outside, runtime, dir, networks, events };
        host.run(|networks| async move { networks.restore(&[]).await }).expect("made");
        host
    }

    /// What a daemon that is killed and started anew makes of what it finds.
    fn restart(&mut self, containers: &[(&str, Option<&Namespace>)]) {
        // Tasks of the old one end with its runtime.
        let old = std::mem::replace(&mut self.runtime, runtime_in_netns(Some(&self.namespace.path()), 2).expect("one"));
        old.shutdown_background();
        self.networks = open(&self.runtime, self.dir.path(), &self.events);
        let found = |(id, netns): &(&str, Option<&Namespace>)| Found {
            id: long_id(id),
            netns: netns.map(|namespace| namespace.path()),
        };
        let containers: Vec<Found> = containers.iter().map(found).collect();
        self.run(|networks| async move { networks.restore(&containers).await }).expect("restored");
    }

    fn run<T, F>(&self, work: impl FnOnce(Networks) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        run(&self.runtime, work(self.networks.clone()))
    }

    /// Status and body of an answer.
    fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        self.ask_version(method, path, body, 51)
    }

    fn ask_version(&self, method: Method, path: &str, body: Value, version: u32) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (path, query) = (path.trim_start_matches('/').to_owned(), query.to_owned());
        self.run(move |networks| async move {
            let segments: Vec<&str> = path.split('/').collect();
            let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let call = Call { method: &method, segments: &segments, query: &query, version, body };
            let find = |name: &str| match name.len() {
                1 => Ok(long_id(name)),
                _ => Err(Failure::new(404, format!("No such container: {name}"))),
            };
            let response = networks.route(call, &find).await.unwrap_or_else(Failure::into_response);
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.expect("a body").to_bytes();
            (status, serde_json::from_slice(&bytes).unwrap_or_default())
        })
    }

    fn create(&self, document: Value) -> String {
        let (status, answer) = self.ask(Method::POST, "/networks/create", document.clone());
        assert_eq!(status, 201, "{document}: {answer}");
        answer["Id"].as_str().expect("an id").to_owned()
    }

    fn inspect(&self, name: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, &format!("/networks/{name}"), Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A container as a create declares it; `request` says what differs from one of no wishes.
    fn declare(&self, name: &str, request: Request) -> Result<(), String> {
        let dir = self.dir.path().join(format!("container-{name}"));
        std::fs::create_dir_all(&dir).expect("made");
        let request =
            Request { id: long_id(name), name: name.into(), hostname: format!("host-{name}"), dir, ..request };
        self.run(|networks| async move { networks.declare(request, 51).await }).map_err(words)
    }

    fn start(&self, name: &str, namespace: &Namespace) -> Result<(), String> {
        let (id, netns) = (long_id(name), namespace.path());
        self.run(|networks| async move { networks.start(&id, &netns).await }).map_err(words)
    }

    fn stop(&self, name: &str) {
        let id = long_id(name);
        self.run(|networks| async move { networks.stop(&id).await }).expect("stopped");
    }

    /// A running container, which serves its name on ports 80 and 53 (UDP).
    fn container(&self, name: &'static str, request: Request) -> Namespace {
        let namespace = Namespace::new();
        self.declare(name, request).expect("declared");
        self.start(name, &namespace).expect("started");
        namespace.serve(80, name);
        namespace
    }

    fn settings(&self, name: &str) -> Value {
        self.networks.settings(&long_id(name), 51)
    }

    fn file(&self, name: &str, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("container-{name}/{file}"))).expect("written")
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock())
    }
}

fn run<T: Send + 'static>(runtime: &tokio::runtime::Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    runtime.spawn(async move { sender.send(work.await).expect("the test waits") });
    receiver.recv().expect("the task ends")
}

fn open(runtime: &tokio::runtime::Runtime, dir: &std::path::Path, events: &Arc<Mutex<Vec<String>>>) -> Networks {
    let config = Config {
        dir: dir.join("data"),
        table: "tug-docker".into(),
        bridge: "tug-docker0".into(),
        resolv_conf: dir.join("resolv.conf"),
        hosts: dir.join("hosts"),
    };
    let events = events.clone();
    let tell: Tell = Arc::new(move |action, _, attributes| {
        let text = |name: &str| {
            attributes.get(name).map_or("", |value| value.get(..1).filter(|_| name == "container").unwrap_or(value))
        };
        events.lock().push(format!("{action} {} {}", text("name"), text("container")).trim_end().to_owned());
    });
    run(runtime, Networks::open(config, tell)).expect("opened")
}

/// `a` is `aaa…`.
fn long_id(name: &str) -> String {
    name.repeat(64).chars().take(64).collect()
}

fn words(failure: Failure) -> String {
    format!("{} {}", failure.status, failure.message)
}

/// On a network of this name.
fn on(network: &str) -> Request {
    Request { mode: network.into(), ..Request::default() }
}

fn with(network: &str, settings: Value) -> Request {
    let settings: EndpointSettings = serde_json::from_value(settings).expect("settings");
    Request { endpoints: [(network.to_owned(), settings)].into(), ..on(network) }
}

/// What the container's resolver says: its code, then sorted records.
fn resolve(namespace: &Namespace, name: &str, kind: RecordType) -> String {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).expect("a name"), kind));
    let question = message.to_vec().expect("encoded");
    let answer = namespace.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        socket.connect((Ipv4Addr::new(127, 0, 0, 11), 53)).expect("connected");
        socket.send(&question).expect("sent");
        let mut buffer = vec![0; 4096];
        let len = socket.recv(&mut buffer).expect("answered");
        Message::from_vec(&buffer[..len]).expect("a message")
    });
    let mut records: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    records.sort();
    format!("{:?} {}", answer.metadata.response_code, records.join(" ")).trim_end().to_owned()
}

/// A resolver that denies the first name that it is asked for.
fn answer_once(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (len, client) = socket.recv_from(&mut buffer)?;
        let asked = Message::from_vec(&buffer[..len]).expect("a question");
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.response_code = hickory_proto::op::ResponseCode::NXDomain;
        answer.add_queries(asked.queries);
        socket.send_to(&answer.to_vec().expect("encoded"), client)
    });
}
