use super::*;
use crate::dial::runtime_in_netns;
use crate::testing::Namespace;

/// A node with an uplink to the outside, and the runtime that its network is run from.
struct Node {
    namespace: Namespace,
    outside: Namespace,
    runtime: tokio::runtime::Runtime,
    state: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let (namespace, outside) = (Namespace::new(), Namespace::new());
        namespace.uplink(&outside, "uplink", "192.0.2.1/24", "192.0.2.9/24");
        let runtime = runtime_in_netns(Some(&namespace.path()), 1).expect("a runtime");
        Self { namespace, outside, runtime, state: tempfile::tempdir().expect("a directory") }
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { sender.send(work.await).expect("the test waits") });
        receiver.recv().expect("the task ends")
    }

    fn open(&self) -> PodNetwork {
        let config = Config {
            bridge: "tug-pods".into(),
            node_cidr: "10.244.0.0/24".parse().expect("a net"),
            cluster_cidr: "10.244.0.0/16".parse().expect("a net"),
            state_dir: self.state.path().into(),
            mtu: 1500,
        };
        self.run(PodNetwork::open(config)).expect("opens")
    }

    fn attach(&self, network: &PodNetwork, id: &str, pod: &Namespace, ports: Vec<HostPort>) -> Result<Attached> {
        let (network, attachment) = (network.clone(), Attachment { id: id.into(), netns: pod.path(), ports });
        self.run(async move { network.attach(&attachment).await })
    }

    fn bridged_packets_meet_nftables(&self, yes: bool) {
        // Only where the kernel has br_netfilter, which makes the other case.
        self.namespace.run(|| {
            let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::path::Path::new(path).exists() {
                std::fs::write(path, if yes { "1" } else { "0" }).expect("written");
            }
        });
    }
}

fn port(protocol: Protocol, host_port: u16, container_port: u16) -> HostPort {
    HostPort { protocol, host_ip: None, host_port, container_port }
}

#[test]
fn pods_reach_each_other_the_outside_and_host_ports() {
    let node = Node::new();
    let network = node.open();
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = vec![port(Protocol::Tcp, 8080, 80), port(Protocol::Udp, 8053, 53)];
    let attached = node.attach(&network, "a", &a, ports).expect("attached");
    assert_eq!(attached.address.to_string(), "10.244.0.2");
    assert_eq!(attached.gateway.to_string(), "10.244.0.1");
    node.attach(&network, "b", &b, vec![]).expect("attached");
    a.serve(80, "a");
    a.serve_udp(53, "a");
    b.serve(80, "b");
    node.outside.serve(80, "outside");

    for bridged in [true, false] {
        node.bridged_packets_meet_nftables(bridged);
        let answers = [
            ("pod to pod keeps its address", b.ask("10.244.0.2:80"), "a 10.244.0.3"),
            ("pod to the outside is masqueraded", a.ask("192.0.2.9:80"), "outside 192.0.2.1"),
            ("host port from the outside", node.outside.ask("192.0.2.1:8080"), "a 192.0.2.9"),
            ("host port over UDP", node.outside.ask_udp("192.0.2.1:8053"), "a 192.0.2.9"),
            ("host port from the node", node.namespace.ask("192.0.2.1:8080"), "a 192.0.2.1"),
            ("host port from the node's loopback", node.namespace.ask("127.0.0.1:8080"), "a 10.244.0.1"),
            ("host port from another pod", b.ask("192.0.2.1:8080"), "a 10.244.0.3"),
            ("host port from the pod itself", a.ask("192.0.2.1:8080"), "a 10.244.0.1"),
        ];
        for (case, answer, expected) in answers {
            assert_eq!(answer.expect(case), expected, "{case}, bridged packets shown: {bridged}");
        }
    }
}

#[test]
fn a_restart_keeps_pods_attached_and_sync_removes_the_rest() {
    let node = Node::new();
    let network = node.open();
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = vec![port(Protocol::Tcp, 8080, 80)];
    node.attach(&network, "a", &a, ports.clone()).expect("attached");
    node.attach(&network, "b", &b, vec![]).expect("attached");
    a.serve(80, "a");
    drop(network);

    let network = node.open();
    let again = node.attach(&network, "a", &a, ports.clone()).expect("attached again");
    assert_eq!(again.address.to_string(), "10.244.0.2");
    assert_eq!(node.outside.ask("192.0.2.1:8080").expect("a host port"), "a 192.0.2.9");
    assert_eq!(network.address_of("b").map(|address| address.to_string()).as_deref(), Some("10.244.0.3"));

    let taken = Namespace::new();
    assert!(node.attach(&network, "c", &taken, ports).is_err(), "the host port is another's");
    assert_eq!(network.address_of("c"), None);

    let syncing = network.clone();
    node.run(async move { syncing.sync(["a".to_owned()]).await }).expect("synced");
    assert_eq!(network.address_of("b"), None);
    let ports = node.namespace.run(|| links::ports("tug-pods")).expect("listed");
    assert_eq!(ports, [link_name("a")]);
    assert_eq!(node.outside.ask("192.0.2.1:8080").expect("still there"), "a 192.0.2.9");

    let removing = network.clone();
    node.run(async move { removing.remove().await }).expect("removed");
    assert!(!node.namespace.run(|| links::exists("tug-pods")).expect("listed"));
    assert_eq!(node.namespace.run(crate::nft::tables).expect("listed"), []);
}
