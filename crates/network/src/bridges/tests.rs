use std::io::{Read, Write};

use super::*;
use crate::dial::runtime_in_netns;
use crate::testing::Namespace;

/// A host with an uplink to the outside, and the runtime that its networks are run from.
struct Host {
    namespace: Namespace,
    outside: Namespace,
    runtime: tokio::runtime::Runtime,
    bridges: Bridges,
}

impl Host {
    fn new() -> Self {
        let (namespace, outside) = (Namespace::new(), Namespace::new());
        namespace.uplink(&outside, "uplink", "192.0.2.1/24", "192.0.2.9/24");
        namespace.give("uplink", "2001:db8::1/64");
        outside.give("eth0", "2001:db8::9/64");
        let runtime = runtime_in_netns(Some(&namespace.path()), 1).expect("a runtime");
        Self { namespace, outside, runtime, bridges: Bridges::new(config()) }
    }

    fn run<T, F>(&self, work: impl FnOnce(Bridges) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
    {
        let (sender, receiver) = std::sync::mpsc::channel();
        let bridges = self.bridges.clone();
        self.runtime.spawn(async move { sender.send(work(bridges).await).expect("the test waits") });
        receiver.recv().expect("the task ends")
    }

    fn add(&self, network: &Network) {
        let network = network.clone();
        self.run(|bridges| async move { bridges.add_network(&network).await }).expect("added");
    }

    /// A container on a network, which serves its name on port 80.
    fn container(&self, network: &Network, name: &'static str, addresses: &[&str]) -> Namespace {
        let container = Namespace::new();
        self.connect(network, &container, name, addresses).expect("connected");
        container.serve(80, name);
        container.serve_udp(53, name);
        container
    }

    fn connect(&self, network: &Network, container: &Namespace, name: &str, addresses: &[&str]) -> Result<()> {
        let endpoint = Endpoint {
            id: format!("{}-{name}", network.id),
            inner: "eth0".into(),
            netns: container.path(),
            hardware_address: None,
            addresses: addresses.iter().map(|address| address.parse().expect("a net")).collect(),
            gateways: if network.internal { Vec::new() } else { gateways(network) },
            switches: vec![("ipv4/conf/eth0/log_martians".into(), "1".into())],
        };
        let network = network.clone();
        self.run(|bridges| async move { bridges.connect(&network, &endpoint).await })
    }

    fn publish(&self, id: &str, ports: &[PublishedPort]) -> Result<()> {
        let publication = Publication { id: id.into(), ports: ports.to_vec() };
        self.run(|bridges| async move { bridges.publish(&publication).await })
    }

    fn links(&self) -> Vec<String> {
        let mut names = self.namespace.run(|| links::names("tug")).expect("listed");
        names.retain(|name| name != "tugtest0");
        names.sort();
        names
    }

    fn bridged_packets_meet_nftables(&self, yes: bool) {
        // Only where the kernel has br_netfilter, which makes the other case.
        self.namespace.run(|| {
            for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
                let path = format!("/proc/sys/net/bridge/{switch}");
                if Path::new(&path).exists() {
                    std::fs::write(path, if yes { "1" } else { "0" }).expect("written");
                }
            }
        });
    }
}

fn config() -> Config {
    Config { table: "tug-docker".into() }
}

fn network(id: &str, subnets: &[(&str, &str)]) -> Network {
    Network {
        id: id.into(),
        bridge: format!("tug-{id}"),
        subnets: subnets
            .iter()
            .map(|(net, gateway)| Subnet {
                net: net.parse().expect("a net"),
                gateway: Some(gateway.parse().expect("an address")),
            })
            .collect(),
        mtu: 1500,
        internal: false,
        masquerade: true,
        icc: true,
    }
}

fn gateways(network: &Network) -> Vec<IpAddr> {
    network.subnets.iter().filter_map(|subnet| subnet.gateway).collect()
}

fn port(protocol: Protocol, host: (&str, u16), target: (&str, u16)) -> PublishedPort {
    let address = |text: &str| text.parse().expect("an address");
    PublishedPort {
        protocol,
        host_ip: address(host.0),
        host_port: host.1,
        target: address(target.0),
        container_port: target.1,
    }
}

/// `None`: nobody answers.
fn check(cases: &[(&str, std::io::Result<String>, Option<&str>)], setting: &str) {
    for (case, answer, expected) in cases {
        assert_eq!(answer.as_ref().ok().map(String::as_str), *expected, "{case}, {setting}: {answer:?}");
    }
}

#[test]
fn containers_reach_whom_docker_lets_them_reach() {
    let host = Host::new();
    let one = network("one", &[("172.20.0.0/16", "172.20.0.1"), ("fd00:1::/64", "fd00:1::1")]);
    let two = network("two", &[("172.21.0.0/16", "172.21.0.1"), ("fd00:2::/64", "fd00:2::1")]);
    let inside = Network { internal: true, ..network("in", &[("172.22.0.0/16", "172.22.0.1")]) };
    let silent =
        Network { icc: false, ..network("no", &[("172.23.0.0/16", "172.23.0.1"), ("fd00:4::/64", "fd00:4::1")]) };
    let plain = Network { masquerade: false, ..network("raw", &[("172.24.0.0/16", "172.24.0.1")]) };
    for network in [&one, &two, &inside, &silent, &plain] {
        host.add(network);
    }
    let a = host.container(&one, "a", &["172.20.0.2/16", "fd00:1::2/64"]);
    let b = host.container(&one, "b", &["172.20.0.3/16", "fd00:1::3/64"]);
    let c = host.container(&two, "c", &["172.21.0.2/16", "fd00:2::2/64"]);
    let d = host.container(&inside, "d", &["172.22.0.2/16"]);
    let e = host.container(&inside, "e", &["172.22.0.3/16"]);
    let f = host.container(&silent, "f", &["172.23.0.2/16", "fd00:4::2/64"]);
    let g = host.container(&silent, "g", &["172.23.0.3/16", "fd00:4::3/64"]);
    let h = host.container(&plain, "h", &["172.24.0.2/16"]);
    // It would try, if it had a route.
    d.run(|| links::add_default_route([172, 22, 0, 1].into())).expect("routed");
    host.outside.serve(80, "outside");
    host.outside.run(|| {
        links::add_route_by("172.16.0.0/12".parse().expect("a net"), [192, 0, 2, 1].into()).expect("routed");
    });

    for bridged in [true, false] {
        host.bridged_packets_meet_nftables(bridged);
        check(
            &[
                ("the same bridge", b.ask("172.20.0.2:80"), Some("a 172.20.0.3")),
                ("the same bridge over IPv6", b.ask("[fd00:1::2]:80"), Some("a fd00:1::3")),
                ("another bridge", c.ask("172.20.0.2:80"), None),
                ("another bridge over IPv6", c.ask("[fd00:1::2]:80"), None),
                ("the outside", a.ask("192.0.2.9:80"), Some("outside 192.0.2.1")),
                ("the outside over IPv6", a.ask("[2001:db8::9]:80"), Some("outside 2001:db8::1")),
                ("the outside without masquerade", h.ask("192.0.2.9:80"), Some("outside 172.24.0.2")),
                ("from the outside", host.outside.ask("172.20.0.2:80"), None),
                ("from the host", host.namespace.ask("172.20.0.2:80"), Some("a 172.20.0.1")),
                ("the same internal bridge", e.ask("172.22.0.2:80"), Some("d 172.22.0.3")),
                ("the outside from an internal bridge", d.ask("192.0.2.9:80"), None),
                ("an internal bridge from another", a.ask("172.22.0.2:80"), None),
                ("an internal bridge from the outside", host.outside.ask("172.22.0.2:80"), None),
                ("an internal bridge from the host", host.namespace.ask("172.22.0.2:80"), Some("d 172.22.0.1")),
                ("a silent bridge", g.ask("172.23.0.2:80"), None),
                ("a silent bridge over IPv6", g.ask("[fd00:4::2]:80"), None),
                ("the outside from a silent bridge", f.ask("192.0.2.9:80"), Some("outside 192.0.2.1")),
            ],
            &format!("bridged packets shown: {bridged}"),
        );
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let host = Host::new();
    let one = network("one", &[("172.20.0.0/16", "172.20.0.1"), ("fd00:1::/64", "fd00:1::1")]);
    let two = network("two", &[("172.21.0.0/16", "172.21.0.1"), ("fd00:2::/64", "fd00:2::1")]);
    let inside = Network { internal: true, ..network("in", &[("172.22.0.0/16", "172.22.0.1")]) };
    for network in [&one, &two, &inside] {
        host.add(network);
    }
    let a = host.container(&one, "a", &["172.20.0.2/16", "fd00:1::2/64"]);
    let b = host.container(&one, "b", &["172.20.0.3/16", "fd00:1::3/64"]);
    let c = host.container(&two, "c", &["172.21.0.2/16", "fd00:2::2/64"]);
    let d = host.container(&inside, "d", &["172.22.0.2/16"]);
    d.run(|| links::add_default_route([172, 22, 0, 1].into())).expect("routed");
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let ports = [
        port(tcp, ("0.0.0.0", 8080), ("172.20.0.2", 80)),
        port(tcp, ("::", 8080), ("fd00:1::2", 80)),
        port(udp, ("0.0.0.0", 8053), ("172.20.0.2", 53)),
        port(udp, ("::", 8053), ("fd00:1::2", 53)),
        port(tcp, ("127.0.0.1", 8081), ("172.20.0.2", 80)),
        port(tcp, ("192.0.2.1", 8082), ("172.20.0.2", 80)),
        port(tcp, ("::1", 8083), ("fd00:1::2", 80)),
        port(tcp, ("::", 8084), ("172.20.0.2", 80)),
    ];
    host.publish("a", &ports).expect("published");
    // Whoever sends packets to its neighbour's loopback.
    host.outside.run(|| {
        links::add_route_by("127.0.0.9/32".parse().expect("a net"), [192, 0, 2, 1].into()).expect("routed");
        sysctl::set("ipv4/conf/all/route_localnet", "1").expect("set");
    });
    host.publish("forged", &[port(tcp, ("127.0.0.9", 8085), ("172.20.0.2", 80))]).expect("published");

    for bridged in [true, false] {
        host.bridged_packets_meet_nftables(bridged);
        check(
            &[
                ("from the outside", host.outside.ask("192.0.2.1:8080"), Some("a 192.0.2.9")),
                ("from the outside over IPv6", host.outside.ask("[2001:db8::1]:8080"), Some("a 2001:db8::9")),
                ("from the outside over UDP", host.outside.ask_udp("192.0.2.1:8053"), Some("a 192.0.2.9")),
                ("from the outside over IPv6, UDP", host.outside.ask_udp("[2001:db8::1]:8053"), Some("a 2001:db8::9")),
                ("from the host", host.namespace.ask("192.0.2.1:8080"), Some("a 192.0.2.1")),
                ("from the host over IPv6", host.namespace.ask("[2001:db8::1]:8080"), Some("a 2001:db8::1")),
                ("from the host's loopback", host.namespace.ask("127.0.0.1:8080"), Some("a 172.20.0.1")),
                ("from the host's loopback over UDP", host.namespace.ask_udp("127.0.0.1:8053"), Some("a 172.20.0.1")),
                ("from another bridge", c.ask("192.0.2.1:8080"), Some("a 172.20.0.1")),
                ("from another bridge over IPv6", c.ask("[2001:db8::1]:8080"), Some("a fd00:1::1")),
                ("from another bridge by its gateway", c.ask("172.21.0.1:8080"), Some("a 172.20.0.1")),
                ("from the same bridge", b.ask("192.0.2.1:8080"), Some("a 172.20.0.1")),
                ("from the container itself", a.ask("192.0.2.1:8080"), Some("a 172.20.0.1")),
                ("from itself over IPv6", a.ask("[2001:db8::1]:8080"), Some("a fd00:1::1")),
                ("from an internal bridge", d.ask("192.0.2.1:8080"), None),
                ("of the loopback, from there", host.namespace.ask("127.0.0.1:8081"), Some("a 172.20.0.1")),
                ("of the loopback, from the outside", host.outside.ask("192.0.2.1:8081"), None),
                ("of the loopback, forged", host.outside.ask("127.0.0.9:8085"), None),
                ("of one address", host.outside.ask("192.0.2.1:8082"), Some("a 192.0.2.9")),
                ("of one address, by another", host.namespace.ask("127.0.0.1:8082"), None),
                ("of ::1", host.namespace.ask("[::1]:8083"), None),
                ("of another family", host.outside.ask("[2001:db8::1]:8084"), None),
            ],
            &format!("bridged packets shown: {bridged}"),
        );
    }

    let taken = host.publish("b", &[port(tcp, ("0.0.0.0", 8080), ("172.20.0.3", 80))]).expect_err("it is another's");
    assert_eq!(taken.errno(), Some(libc::EEXIST));
    host.publish("b", &[port(tcp, ("0.0.0.0", 9080), ("172.20.0.3", 80))]).expect("published");
    host.publish("b", &[port(tcp, ("0.0.0.0", 9081), ("172.20.0.3", 80))]).expect("published elsewhere");
    host.run(|bridges| async move { bridges.unpublish("a").await.and(bridges.unpublish("a").await) }).expect("freed");
    check(
        &[
            ("unpublished", host.outside.ask("192.0.2.1:8080"), None),
            ("unpublished over UDP", host.outside.ask_udp("192.0.2.1:8053"), None),
            ("replaced", host.outside.ask("192.0.2.1:9080"), None),
            ("anew", host.outside.ask("192.0.2.1:9081"), Some("b 192.0.2.9")),
        ],
        "afterwards",
    );
}

#[test]
fn a_restart_keeps_what_is_named_and_leaves_nothing_else() {
    let mut host = Host::new();
    let one = network("one", &[("172.20.0.0/16", "172.20.0.1")]);
    let two = network("two", &[("172.21.0.0/16", "172.21.0.1"), ("fd00:2::/64", "fd00:2::1")]);
    host.add(&one);
    host.add(&two);
    let a = host.container(&one, "a", &["172.20.0.2/16"]);
    a.echo(7);
    let _b = host.container(&one, "b", &["172.20.0.3/16"]);
    let _c = host.container(&two, "c", &["172.21.0.2/16", "fd00:2::2/64"]);
    let ports = vec![
        port(Protocol::Tcp, ("0.0.0.0", 8080), ("172.20.0.2", 80)),
        port(Protocol::Tcp, ("0.0.0.0", 8007), ("172.20.0.2", 7)),
    ];
    host.publish("a", &ports).expect("published");
    host.publish("c", &[port(Protocol::Tcp, ("0.0.0.0", 8081), ("172.21.0.2", 80))]).expect("published");
    // Another engine's, and a bridge that somebody else made.
    let other = Bridges::new(Config { table: "tug-other".into() });
    let third = network("three", &[("172.25.0.0/16", "172.25.0.1")]);
    let adding = third.clone();
    host.run(|_| async move { other.add_network(&adding).await }).expect("added");
    host.namespace
        .run(|| links::ensure_bridge("foreign0", "172.26.0.1/16".parse().expect("a net"), 1500))
        .expect("made");
    let mut conversation = host.outside.connect("192.0.2.1:8007");

    host.bridges = Bridges::new(config());
    let foreign = Network { bridge: "foreign0".into(), ..network("foreign", &[("172.26.0.0/16", "172.26.0.1")]) };
    host.namespace.run(|| links::set_alias("foreign0", "somebody's")).expect("written");
    let networks = vec![one.clone(), foreign];
    let publications = vec![Publication { id: "a".into(), ports: ports.clone() }];
    host.run(|bridges| async move { bridges.restore(networks, vec!["one-a".into()], publications).await })
        .expect("restored");
    let mut said = [0; 5];
    conversation.write_all(b"still").and_then(|()| conversation.read_exact(&mut said)).expect("it goes on");
    assert_eq!(&said, b"still");
    let mut expected = [link_name("one-a"), "tug-one".into(), "tug-three".into()];
    expected.sort();
    assert_eq!(host.links(), expected);
    check(
        &[
            ("kept", host.outside.ask("192.0.2.1:8080"), Some("a 192.0.2.9")),
            ("gone", host.outside.ask("192.0.2.1:8081"), None),
        ],
        "after a restart",
    );
    let tables = host.namespace.run(crate::nft::tables).expect("listed");
    assert!(!tables.contains(&crate::nft::Table::ipv6("tug-docker")), "no network has IPv6 any more");

    // What was connected before goes with what is connected after.
    let again = host.container(&one, "a", &["172.20.0.2/16"]);
    drop(again);
    host.run(|bridges| async move { bridges.remove().await.and(bridges.remove().await) }).expect("removed");
    assert_eq!(host.links(), ["tug-three"]);
    assert!(host.namespace.run(|| links::exists("foreign0")).expect("listed"), "it is somebody else's");
    let tables = host.namespace.run(crate::nft::tables).expect("listed");
    assert_eq!(tables, [crate::nft::Table::ipv4("tug-other")]);
}

#[test]
fn containers_move_between_networks() {
    let host = Host::new();
    let one = network("one", &[("172.20.0.0/16", "172.20.0.1")]);
    let two = network("two", &[("172.21.0.0/16", "172.21.0.1")]);
    host.add(&one);
    host.add(&two);
    let a = host.container(&one, "a", &["172.20.0.2/16"]);
    let endpoint = Endpoint {
        id: "two-a".into(),
        inner: "eth1".into(),
        netns: a.path(),
        hardware_address: Some([2, 0, 0, 0, 0, 7]),
        addresses: vec!["172.21.0.2/16".parse().expect("a net")],
        gateways: Vec::new(),
        switches: Vec::new(),
    };
    let joining = (two.clone(), endpoint);
    host.run(|bridges| async move { bridges.connect(&joining.0, &joining.1).await }).expect("connected");
    let hardware = a.run(links::all).expect("listed");
    let of = |name: &str| hardware.iter().find(|link| link.name == name).and_then(|link| link.hardware_address.clone());
    assert_eq!(of("eth0"), Some(vec![0x02, 0x42, 172, 20, 0, 2]));
    assert_eq!(of("eth1"), Some(vec![2, 0, 0, 0, 0, 7]));
    let switched = ["eth0", "eth1"].map(|link| a.run(|| sysctl::get(&format!("ipv4/conf/{link}/log_martians"))));
    assert_eq!(switched, [Some("1".into()), Some("0".into())]);
    host.outside.serve(80, "outside");
    assert_eq!(a.ask("192.0.2.9:80").expect("by the first"), "outside 192.0.2.1");

    let path = a.path();
    host.run(|bridges| async move { bridges.route(&path, &[[172, 21, 0, 1].into()]).await }).expect("routed");
    host.run(|bridges| async move { bridges.disconnect(&["one-a".into()]).await }).expect("disconnected");
    assert_eq!(a.ask("192.0.2.9:80").expect("by the second"), "outside 192.0.2.1");
    assert!(host.namespace.ask("172.20.0.2:80").is_err());
    assert_eq!(host.namespace.ask("172.21.0.2:80").expect("there"), "a 172.21.0.1");

    host.run(|bridges| async move { bridges.remove_network("one").await.and(bridges.remove_network("one").await) })
        .expect("removed");
    assert!(host.connect(&one, &Namespace::new(), "b", &["172.20.0.3/16"]).is_err(), "its bridge is gone");
    let mut expected = [link_name("two-a"), "tug-two".into()];
    expected.sort();
    assert_eq!(host.links(), expected);

    let others = ["b", "c", "d"].map(|name| (Namespace::new(), name));
    for (number, (namespace, name)) in others.iter().enumerate() {
        host.connect(&two, namespace, name, &[&format!("172.21.0.1{number}/16")]).expect("connected");
    }
    let leaving: Vec<String> = ["two-b", "two-none", "two-c"].map(str::to_owned).into();
    host.run(|bridges| async move { bridges.disconnect(&leaving).await.and(bridges.disconnect(&leaving).await) })
        .expect("disconnected");
    let mut expected = [link_name("two-a"), link_name("two-d"), "tug-two".into()];
    expected.sort();
    assert_eq!(host.links(), expected);
}
