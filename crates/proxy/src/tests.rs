//! Services as a client meets them: real pods, a real node, connections that are made or refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
use serde_json::{Value, json};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tug_api::{Object, ObjectKey};
use tug_client::{Change, Scope, Source, SourceEvent};
use tug_network::dial::runtime_in_netns;
use tug_network::pods::{Attachment, PodNetwork};

use super::*;
use crate::testing::Namespace;

fn object(value: &Value) -> Arc<Object> {
    Arc::new(Object::decode(Bytes::from(value.to_string())).expect("an object"))
}

/// A Service at 10.96.0.`last`; `more` is merged into its spec.
fn service(name: &str, last: u8, more: Value) -> Value {
    let ip = format!("10.96.0.{last}");
    let mut spec = json!({"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]});
    for (field, value) in more.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// `endpoints`: an address, and conditions as letters: ready, serving, terminating.
fn slice(service: &str, endpoints: &[(&str, &str)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, conditions)| {
            let has = |letter| conditions.contains(letter);
            json!({"addresses": [address], "nodeName": if address.starts_with("10.244.0.") {"here"} else {"there"},
                "conditions": {"ready": has('r'), "serving": has('s'), "terminating": has('t')}})
        })
        .collect();
    json!({"metadata": {"name": format!("{service}-1"), "namespace": "default",
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            }},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"port": 8080, "protocol": "TCP"}, {"port": 8053, "protocol": "UDP", "name": "dns"}]})
}

fn config() -> Config {
    Config {
        node_name: "here".into(),
        node_ip: [192, 0, 2, 1].into(),
        service_cidr: "10.96.0.0/12".parse().expect("a net"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a net"),
        bridge: Some("tug-pods".into()),
        local_addresses: vec![[10, 96, 0, 10].into()],
    }
}

/// A node with pods `a` (10.244.0.2) and `b` (10.244.0.3), and somebody outside.
struct Node {
    node: Namespace,
    outside: Namespace,
    a: Namespace,
    b: Namespace,
    seen: Seen,
    kernel: Kernel,
    known: BTreeMap<String, Arc<Object>>,
    _state: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let [node, outside, a, b] = [(); 4].map(|()| Namespace::new());
        node.uplink(&outside, "uplink", "192.0.2.1/24", "192.0.2.9/24");
        let state = tempfile::tempdir().expect("a directory");
        let pods = tug_network::pods::Config {
            bridge: "tug-pods".into(),
            node_cidr: "10.244.0.0/24".parse().expect("a net"),
            cluster_cidr: "10.244.0.0/16".parse().expect("a net"),
            state_dir: state.path().into(),
            mtu: 1500,
        };
        let runtime = runtime_in_netns(Some(&node.path()), 1).expect("a runtime");
        let attachments =
            [("a", &a), ("b", &b)].map(|(id, pod)| Attachment { id: id.into(), netns: pod.path(), ports: vec![] });
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let network = PodNetwork::open(pods).await.expect("opens");
            for attachment in attachments {
                network.attach(&attachment).await.expect("attached");
            }
            sender.send(()).expect("the test waits");
        });
        receiver.recv().expect("the task ends");
        a.serve(8080, "a");
        b.serve(8080, "b");
        a.serve_udp(8053, "a");
        b.serve_udp(8053, "b");
        let mut kernel = Kernel::new(&config());
        node.run(|| {
            prepare(&config()).expect("prepared");
            kernel.replace(BTreeMap::new()).expect("committed");
        });
        Self { node, outside, a, b, seen: Seen::default(), kernel, known: BTreeMap::new(), _state: state }
    }

    fn put(&mut self, note: fn(&mut Seen, &Change), name: &str, new: Option<&Value>) {
        let new = new.map(object);
        let old = match &new {
            Some(new) => self.known.insert(name.into(), new.clone()),
            None => self.known.remove(name),
        };
        note(&mut self.seen, &Change { old, new });
    }

    fn service(&mut self, name: &str, new: Option<Value>) {
        self.put(Seen::service, &format!("service {name}"), new.as_ref());
    }

    fn endpoints(&mut self, service: &str, endpoints: &[(&str, &str)]) {
        self.put(Seen::slice, &format!("slice {service}"), Some(&slice(service, endpoints)));
    }

    fn apply(&mut self) {
        let changed = self.seen.take_changed();
        let wanted =
            changed.into_iter().map(|key| (key.clone(), services::rules(&self.seen, &key, &config()))).collect();
        let kernel = &mut self.kernel;
        self.node.run(|| kernel.change(wanted).expect("committed"));
    }

    /// As a restarted process does, which knows nothing of what is there.
    fn replace(&mut self) {
        let wanted = self.seen.take_all();
        let wanted =
            wanted.into_iter().map(|key| (key.clone(), services::rules(&self.seen, &key, &config()))).collect();
        self.kernel = Kernel::new(&config());
        let kernel = &mut self.kernel;
        self.node.run(|| kernel.replace(wanted).expect("committed"));
    }
}

/// Who answers to many connections.
fn who(client: &Namespace, address: &str) -> BTreeSet<String> {
    (0..40).map(|_| client.ask(address).expect("answered")).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn cluster_ips_lead_to_ready_endpoints_from_everywhere() {
    let mut node = Node::new();
    node.service("web", Some(service("web", 7, json!({}))));
    node.endpoints("web", &[("10.244.0.2", "rs"), ("10.244.0.3", "rs")]);
    node.apply();
    let both = "10.96.0.7:80";
    assert_eq!(who(&node.node, both), set(["a 10.244.0.1", "b 10.244.0.1"]));
    assert_eq!(who(&node.a, both), set(["a 10.244.0.1", "b 10.244.0.2"]), "a pod reaches itself masqueraded");

    node.endpoints("web", &[("10.244.0.2", "st"), ("10.244.0.3", "rs")]);
    node.apply();
    assert_eq!(who(&node.a, both), set(["b 10.244.0.2"]));

    node.endpoints("web", &[("10.244.0.2", "st"), ("10.244.0.3", "t")]);
    node.apply();
    assert_eq!(who(&node.b, both), set(["a 10.244.0.3"]), "what still serves, when nothing is ready");

    node.endpoints("web", &[]);
    node.apply();
    for client in [&node.a, &node.node] {
        let error = client.ask(both).expect_err("no endpoints");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    node.service("web", None);
    node.apply();
    for (client, address) in [(&node.a, both), (&node.node, both), (&node.b, "10.103.1.2:443")] {
        let error = client.ask(address).expect_err("nobody owns it");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
    }
}

#[test]
fn node_ports_by_policy() {
    let mut node = Node::new();
    let port = json!([{"port": 80, "nodePort": 30080, "protocol": "TCP"}]);
    node.service("web", Some(service("web", 7, json!({"type": "NodePort", "ports": port}))));
    node.endpoints("web", &[("10.244.0.2", "rs")]);
    node.apply();
    assert_eq!(node.outside.ask("192.0.2.1:30080").expect("from outside"), "a 10.244.0.1");
    assert_eq!(node.node.ask("192.0.2.1:30080").expect("from the node"), "a 10.244.0.1");
    assert_eq!(node.node.ask("127.0.0.1:30080").expect("from its loopback"), "a 10.244.0.1");
    assert_eq!(node.b.ask("192.0.2.1:30080").expect("from a pod"), "a 10.244.0.1");

    let local = json!({"type": "NodePort", "ports": port, "externalTrafficPolicy": "Local"});
    node.service("web", Some(service("web", 7, local)));
    node.apply();
    assert_eq!(node.outside.ask("192.0.2.1:30080").expect("from outside"), "a 192.0.2.9", "the client's own address");
    assert_eq!(node.b.ask("192.0.2.1:30080").expect("from a pod"), "a 10.244.0.3");

    node.endpoints("web", &[("10.244.1.2", "rs")]);
    node.apply();
    assert_eq!(node.outside.ask("192.0.2.1:30080").expect_err("none is here").kind(), ErrorKind::TimedOut);

    node.service("web", Some(service("web", 7, json!({}))));
    node.apply();
    assert_eq!(node.outside.ask("192.0.2.1:30080").expect_err("no node port").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn udp_flows_leave_endpoints_that_are_gone() {
    let mut node = Node::new();
    let port = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    node.service("dns", Some(service("dns", 53, json!({"ports": port}))));
    node.endpoints("dns", &[("10.244.0.2", "rs")]);
    node.apply();
    let socket = node.b.run(|| std::net::UdpSocket::bind("0.0.0.0:4000").expect("a socket"));
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("set");
    let ask = || {
        let mut answer = [0; 32];
        socket.send_to(b"?", "10.96.0.53:53").expect("sent");
        let len = socket.recv(&mut answer).expect("answered");
        String::from_utf8_lossy(&answer[..len]).into_owned()
    };
    assert_eq!(ask(), "a 10.244.0.3");
    node.endpoints("dns", &[("10.244.0.3", "rs")]);
    node.apply();
    assert_eq!(node.node.ask_udp("10.96.0.53:53").expect("answered"), "b 10.244.0.1");
    assert_eq!(ask(), "b 10.244.0.1", "the same socket, another endpoint");
}

#[test]
fn affinity_keeps_a_client_at_its_endpoint() {
    let mut node = Node::new();
    node.service("web", Some(service("web", 7, json!({"sessionAffinity": "ClientIP"}))));
    node.endpoints("web", &[("10.244.0.2", "rs"), ("10.244.0.3", "rs")]);
    node.apply();
    let first = who(&node.node, "10.96.0.7:80");
    assert_eq!(first.len(), 1);
    for _ in 0..4 {
        node.replace();
        assert_eq!(who(&node.node, "10.96.0.7:80"), first, "a restart keeps it");
    }
    let (gone, other) = if first == set(["a 10.244.0.1"]) { ("10.244.0.2", "b") } else { ("10.244.0.3", "a") };
    let left = if gone == "10.244.0.2" { "10.244.0.3" } else { "10.244.0.2" };
    node.endpoints("web", &[(gone, "st"), (left, "rs")]);
    node.apply();
    assert_eq!(who(&node.node, "10.96.0.7:80"), set([&format!("{other} 10.244.0.1")]));
    node.service("web", Some(service("web", 7, json!({}))));
    node.endpoints("web", &[("10.244.0.2", "rs"), ("10.244.0.3", "rs")]);
    node.apply();
    assert_eq!(who(&node.node, "10.96.0.7:80").len(), 2);
}

/// Whatever the changes were, putting all anew from what was seen gives the same answers.
#[test]
fn incremental_changes_end_where_a_replacement_does() {
    let mut node = Node::new();
    let shapes = [
        json!({}),
        json!({"sessionAffinity": "ClientIP"}),
        json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}),
        json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}),
        json!({"externalIPs": ["192.0.2.77"]}),
        json!({"type": "ExternalName", "clusterIP": "", "clusterIPs": [], "externalName": "example.com"}),
    ];
    for (before, after) in shapes.iter().flat_map(|before| shapes.iter().map(move |after| (before, after))) {
        for endpoints in [&[][..], &[("10.244.0.2", "rs")], &[("10.244.0.2", "rs"), ("10.244.1.3", "rs")]] {
            node.service("web", Some(service("web", 7, before.clone())));
            node.apply();
            node.endpoints("web", endpoints);
            node.service("web", Some(service("web", 7, after.clone())));
            node.apply();
            let chains = node.node.run(rules_of_table);
            node.replace();
            assert_eq!(chains, node.node.run(rules_of_table), "{before} to {after} with {endpoints:?}");
        }
    }
}

/// Chains with the number of their rules, and maps with their keys.
fn rules_of_table() -> BTreeMap<String, Vec<Vec<u8>>> {
    let table = tug_network::nft::Table::ipv4("tug-proxy");
    let rules = tug_network::nft::rules(&table).expect("listed");
    let chains = tug_network::nft::chains().expect("listed").into_iter().filter(|chain| chain.table == table);
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = chains.map(|chain| (chain.name, Vec::new())).collect();
    for rule in rules {
        found.entry(rule.chain).or_default().push(Vec::new());
    }
    for set in ["service-ips", "node-ports", "refused-ips", "to-itself"] {
        let mut keys: Vec<_> =
            tug_network::nft::elements(&table, set).expect("listed").into_iter().map(|(key, _)| key).collect();
        keys.sort();
        found.insert(set.into(), keys);
    }
    found
}

/// Feeds informers with what the test sends.
#[derive(Default)]
struct Script(Mutex<BTreeMap<String, tokio::sync::mpsc::UnboundedReceiver<SourceEvent>>>);

impl Source for Script {
    fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent> {
        let events = self.0.lock().remove(&scope.plural).expect("each kind is followed once");
        UnboundedReceiverStream::new(events).boxed()
    }
}

#[test]
fn an_address_is_dropped_once_no_new_connection_goes_to_it() {
    let node = Node::new();
    let script = Script::default();
    let [services, slices] = ["services", "endpointslices"].map(|plural| {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        script.0.lock().insert(plural.into(), receiver);
        sender
    });
    let runtime = runtime_in_netns(Some(&node.node.path()), 1).expect("a runtime");
    let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("the proxy only watches"))
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    let _guard = runtime.enter();
    let cluster = Cluster::new(kube::Client::new(nobody, "default"), Arc::new(script));
    runtime.spawn(async move { sender.send(Arc::new(Proxy::start(cluster, config()).await.expect("starts"))) });
    let proxy = receiver.recv().expect("started");
    // Runs a future in the node, and says when it is done.
    let run_for = |labels: Value, address: &str| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (proxy, address) = (proxy.clone(), address.parse().expect("an address"));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a pod");
        runtime.spawn(async move {
            proxy.synced().await;
            proxy.dropped(&pod, address).await;
            sender.send(()).expect("the test waits");
        });
        receiver
    };
    let run = |address: &str| run_for(json!({}), address);

    let send = |to: &tokio::sync::mpsc::UnboundedSender<SourceEvent>, event| to.send(event).expect("followed");
    send(&services, SourceEvent::Restart);
    send(&services, SourceEvent::Applied(object(&revision(service("web", 7, json!({})), 1))));
    send(&services, SourceEvent::Synced);
    send(&slices, SourceEvent::Restart);
    let both = slice("web", &[("10.244.0.2", "rs"), ("10.244.0.3", "rs")]);
    send(&slices, SourceEvent::Applied(object(&revision(both, 2))));
    let mut by_hand = slice("other", &[("10.244.0.4", "rs")]);
    by_hand["metadata"]["labels"] = json!({"kubernetes.io/service-name": "other"});
    send(&slices, SourceEvent::Applied(object(&revision(by_hand, 2))));
    send(&slices, SourceEvent::Synced);

    run("10.244.0.9").recv().expect("nobody knows this address");
    run("10.244.0.4").recv().expect("no controller will take it from a list that a person wrote");
    run("192.0.2.1").recv().expect("the node's own address is shared");
    run("2001:db8::1").recv().expect("there are no such pods");
    assert_eq!(who(&node.node, "10.96.0.7:80"), set(["a 10.244.0.1", "b 10.244.0.1"]));

    let dropped = run("10.244.0.2");
    assert!(dropped.recv_timeout(Duration::from_millis(200)).is_err(), "it is ready");
    let one = slice("web", &[("10.244.0.2", "st"), ("10.244.0.3", "rs")]);
    send(&slices, SourceEvent::Applied(object(&revision(one, 3))));
    dropped.recv().expect("it terminates");
    assert_eq!(who(&node.node, "10.96.0.7:80"), set(["b 10.244.0.1"]));

    let last = run("10.244.0.3");
    let none = slice("web", &[("10.244.0.2", "st"), ("10.244.0.3", "st")]);
    send(&slices, SourceEvent::Applied(object(&revision(none, 4))));
    last.recv().expect("though it gets connections still, for want of a ready one");

    // One that was ready for so short a time that no slice says so yet: one may still come that does.
    let late = service("late", 8, json!({"selector": {"app": "late"}}));
    send(&services, SourceEvent::Applied(object(&revision(late, 5))));
    run_for(json!({"app": "other"}), "10.244.0.3").recv().expect("no Service has this pod");
    let key = ObjectKey::new("default", "late");
    runtime.block_on(async {
        let mut progress = proxy.shared.progress.subscribe();
        while proxy.shared.seen.lock().get(&key).is_none() {
            progress.changed().await.expect("the proxy runs");
        }
    });
    let early = run_for(json!({"app": "late"}), "10.244.0.3");
    assert!(early.recv_timeout(Duration::from_millis(200)).is_err(), "the controller hasn't seen that it goes");
    send(&slices, SourceEvent::Applied(object(&revision(slice("late", &[("10.244.0.3", "rs")]), 6))));
    assert!(early.recv_timeout(Duration::from_millis(200)).is_err(), "it still hasn't");
    send(&slices, SourceEvent::Applied(object(&revision(slice("late", &[("10.244.0.3", "st")]), 7))));
    early.recv().expect("now it has");
}

/// What waits to be accepted is made; what isn't even that is being made.
#[test]
fn connections_that_are_being_made_are_seen() {
    let node = Node::new();
    let address = Ipv4Addr::new(10, 244, 0, 2);
    let is_connecting = || node.node.run(|| tug_network::conntrack::is_connecting(address).expect("seen"));
    let listener = node.a.run(|| {
        let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
        bind(listener.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 9090)).expect("a free port");
        listen(&listener, Backlog::new(0).expect("none")).expect("it listens");
        listener
    });
    let target = SocketAddrV4::new(address, 9090).into();
    let connect = || node.node.run(|| TcpStream::connect_timeout(&target, Duration::from_millis(100)));
    assert!(!is_connecting());
    let waits = connect().expect("there is room for one");
    assert!(!is_connecting());
    connect().expect_err("and for no other");
    assert!(is_connecting());
    drop((waits, listener));
}

fn revision(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

/// Changes and whole replacements are each one step: no connection meets half of one.
#[test]
fn connections_never_fail_while_rules_change() {
    let mut node = Node::new();
    node.service("web", Some(service("web", 7, json!({}))));
    node.endpoints("web", &[("10.244.0.2", "rs"), ("10.244.0.3", "rs")]);
    node.apply();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = {
        let (namespace, done) = (node.b.clone(), done.clone());
        std::thread::spawn(move || {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                namespace.ask("10.96.0.7:80").unwrap_or_else(|error| panic!("connection {asked}: {error}"));
                asked += 1;
            }
            asked
        })
    };
    for round in 0..30 {
        let (one, other) = if round % 2 == 0 { ("rs", "st") } else { ("st", "rs") };
        node.endpoints("web", &[("10.244.0.2", one), ("10.244.0.3", other)]);
        node.apply();
        node.replace();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(client.join().expect("no connection failed") > 30);
}
