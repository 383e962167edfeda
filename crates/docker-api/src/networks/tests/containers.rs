//! Containers on networks: addresses, names, ports, and what a restart finds.

use super::*;

#[test]
fn containers_have_addresses_and_names() {
    let host = Host::new();
    let id = host.create(json!({"Name": "shop", "EnableIPv6": true,
        "IPAM": {"Config": [{"Subnet": "172.28.0.0/16"}, {"Subnet": "2001:db8:5::/64"}]}}));
    host.create(json!({"Name": "other.net"}));
    host.create(json!({"Name": "inside", "Internal": true}));
    let a = host.container("a", with("shop", json!({"Aliases": ["web", "Front"]})));
    let b =
        host.container("b", with("shop", json!({"Links": ["a:link"], "IPAMConfig": {"IPv4Address": "172.28.7.7"}})));
    let c = host.container("c", on("other.net"));
    let d = host.container("d", on("inside"));
    let e = host.container("e", on("default"));
    host.outside.serve(80, "outside");

    let settings = host.settings("a");
    let expected = json!({
        "IPAMConfig": null, "Links": null, "Aliases": ["web", "Front"], "MacAddress": "02:42:ac:1c:00:02",
        "DriverOpts": null, "GwPriority": 0, "NetworkID": id, "EndpointID": settings["Networks"]["shop"]["EndpointID"],
        "Gateway": "172.28.0.1", "IPAddress": "172.28.0.2", "IPPrefixLen": 16, "IPv6Gateway": "2001:db8:5::1",
        "GlobalIPv6Address": "2001:db8:5::2", "GlobalIPv6PrefixLen": 64,
        "DNSNames": ["a", "web", "Front", "aaaaaaaaaaaa", "host-a"],
    });
    assert_eq!(settings["Networks"]["shop"], expected);
    assert_eq!((&settings["IPAddress"], &settings["Ports"]), (&json!(""), &json!({})));
    assert_eq!(host.settings("e")["IPAddress"], json!("172.17.0.2"));
    let shown = host.inspect("shop")["Containers"].clone();
    let expected = json!({"Name": "b", "EndpointID": shown[long_id("b")]["EndpointID"], "MacAddress": "02:42:ac:1c:07:07",
        "IPv4Address": "172.28.7.7/16", "IPv6Address": "2001:db8:5::3/64"});
    assert_eq!((shown.as_object().expect("containers").len(), &shown[long_id("b")]), (2, &expected));

    let (ipv4, ipv6, reverse) = (RecordType::A, RecordType::AAAA, RecordType::PTR);
    let cases = [
        ("by its name", &b, "a.", ipv4, "NoError 172.28.0.2"),
        ("by its name, IPv6", &b, "a.", ipv6, "NoError 2001:db8:5::2"),
        ("by an alias, in any case", &b, "FRONT.", ipv4, "NoError 172.28.0.2"),
        ("by its id", &b, "aaaaaaaaaaaa.", ipv4, "NoError 172.28.0.2"),
        ("by its host name", &b, "host-a.", ipv4, "NoError 172.28.0.2"),
        ("by name and network", &b, "a.shop.", ipv4, "NoError 172.28.0.2"),
        ("by a link", &b, "link.", ipv4, "NoError 172.28.0.2"),
        ("a mail server: known, and none", &b, "a.", RecordType::MX, "NoError"),
        ("itself", &a, "a.", ipv4, "NoError 172.28.0.2"),
        ("back", &b, "2.0.28.172.in-addr.arpa.", reverse, "NoError a.shop."),
        ("a network's name with a dot", &c, "c.other.net.", ipv4, "NoError 172.20.0.2"),
        ("from an internal network", &d, "d.", ipv4, "NoError 172.19.0.2"),
        ("nothing else from there", &d, "a.", ipv4, "ServFail"),
    ];
    for (case, namespace, name, kind, expected) in cases {
        let expected = expected
            .replace("172.20.0.2", host.settings("c")["Networks"]["other.net"]["IPAddress"].as_str().expect("one"));
        let expected = expected
            .replace("172.19.0.2", host.settings("d")["Networks"]["inside"]["IPAddress"].as_str().expect("one"));
        assert_eq!(resolve(namespace, name, kind), expected, "{case}");
    }

    assert_eq!(b.ask("172.28.0.2:80").expect("a neighbour"), "a 172.28.7.7");
    assert_eq!(e.ask("192.0.2.9:80").expect("the outside"), "outside 192.0.2.1");
    assert!(d.ask("192.0.2.9:80").is_err() && c.ask("172.28.0.2:80").is_err());
    assert_eq!(
        host.file("b", "resolv.conf").lines().skip(2).collect::<Vec<_>>(),
        ["nameserver 127.0.0.11", "search lan", "options edns0 ndots:0"]
    );
    assert_eq!(
        host.file("e", "resolv.conf").lines().skip(2).collect::<Vec<_>>(),
        ["nameserver 192.0.2.9", "search lan", "options edns0"]
    );
    assert!(host.file("b", "hosts").ends_with("\n172.28.7.7\thost-b\n2001:db8:5::3\thost-b\n"));
}

#[test]
fn others_names_are_asked_of_the_hosts_resolvers() {
    let host = Host::new();
    host.create(json!({"Name": "shop"}));
    let socket = host.outside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("a free port"));
    answer_once(socket);
    let a = host.container("a", on("shop"));
    assert_eq!(resolve(&a, "example.com.", RecordType::A), "NXDomain");
}

#[test]
fn ports_lead_to_containers() {
    let host = Host::new();
    let ports = |bindings: Value| -> PortBindings { serde_json::from_value(bindings).expect("bindings") };
    let publish = |bindings: Value| Request { ports: ports(bindings), exposed: vec!["99/udp".into()], ..on("bridge") };
    let a = host.container(
        "a",
        publish(json!({
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081-8083"}],
            "81/tcp": [], "53/udp": [{"HostPort": "8053"}],
        })),
    );
    a.serve_udp(53, "a");
    let shown = host.settings("a")["Ports"].clone();
    let expected = json!({
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
            {"HostIp": "127.0.0.1", "HostPort": "8081"}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "8053"}, {"HostIp": "::", "HostPort": "8053"}],
        "81/tcp": null,
        "99/udp": null,
    });
    assert_eq!(shown, expected);
    assert_eq!(host.outside.ask("192.0.2.1:8080").expect("published"), "a 192.0.2.9");
    assert_eq!(host.namespace.ask("127.0.0.1:8080").expect("the loopback too"), "a 172.17.0.1");
    assert_eq!(host.namespace.ask("[::1]:8080").expect("and that of IPv6"), "a 172.17.0.1");
    for round in 0..2 {
        assert_eq!(host.namespace.ask_udp("[::1]:8053").expect("over UDP"), "a 172.17.0.1", "{round}");
    }
    assert_eq!(host.outside.ask_udp("192.0.2.1:8053").expect("over UDP"), "a 192.0.2.9");
    assert_eq!(host.namespace.ask("127.0.0.1:8081").expect("the range's first"), "a 172.17.0.1");
    assert!(host.outside.ask("192.0.2.1:8081").is_err(), "that is the loopback's");

    let _someone = host.namespace.run(|| std::net::TcpListener::bind("0.0.0.0:9090").expect("a free port"));
    let cases = [
        (json!({"80/tcp": [{"HostPort": "8080"}]}), "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        (
            json!({"80/tcp": [{"HostIp": "192.0.2.1", "HostPort": "8080"}]}),
            "Bind for 192.0.2.1:8080 failed: port is already allocated",
        ),
        (
            json!({"80/tcp": [{"HostPort": "9090"}]}),
            "failed to bind host port 0.0.0.0:9090/tcp: address already in use",
        ),
        (
            json!({"80/tcp": [{"HostIp": "203.0.113.5", "HostPort": "1"}]}),
            "failed to bind host port 203.0.113.5:1/tcp: cannot assign requested address",
        ),
        (
            json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081-8081"}]}),
            "Bind for 127.0.0.1:8081 failed: port is already allocated",
        ),
    ];
    let b = Namespace::new();
    for (bindings, words) in cases {
        host.declare("b", publish(bindings.clone())).expect("declared");
        let failure = host.start("b", &b).expect_err("taken");
        let begins = "500 failed to set up container networking: driver failed programming external connectivity on endpoint b (";
        assert!(failure.starts_with(begins) && failure.ends_with(&format!("): {words}")), "{bindings}: {failure}");
        assert_eq!(host.settings("b")["Ports"], json!({}));
    }
    assert_eq!(host.inspect("bridge")["Containers"].as_object().expect("containers").len(), 1);
    for (bindings, words) in [
        (json!({"x/tcp": []}), "400 invalid port specification: \"x/tcp\""),
        (json!({"80/tcp": [{"HostIp": "here"}]}), "400 invalid IP address: here"),
        (json!({"80/tcp": [{"HostPort": "9-8"}]}), "400 invalid port specification: \"9-8\""),
    ] {
        assert_eq!(host.declare("b", publish(bindings)), Err(words.into()));
    }

    // Any port, and all that are exposed.
    host.declare(
        "b",
        Request { publish_all: true, ..publish(json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})) },
    )
    .expect("declared");
    host.start("b", &b).expect("started");
    b.serve(80, "b");
    let shown = host.settings("b")["Ports"].clone();
    let port = shown["80/tcp"][0]["HostPort"].as_str().expect("a port");
    assert_eq!(host.namespace.ask(&format!("127.0.0.1:{port}")).expect("published"), "b 172.17.0.1");
    assert!(shown["99/udp"][0]["HostPort"].is_string(), "{shown}");
    host.stop("a");
    assert!(host.outside.ask("192.0.2.1:8080").is_err());
    assert!(host.namespace.run(|| std::net::TcpListener::bind("0.0.0.0:8080").is_ok()), "it is free again");
    host.declare("c", publish(json!({"80/tcp": [{"HostPort": "8080"}]}))).expect("declared");
    host.start("c", &Namespace::new()).expect("the port is to be had");
}

#[test]
fn containers_come_and_go() {
    let host = Host::new();
    host.create(json!({"Name": "one"}));
    host.create(json!({"Name": "two"}));
    host.events();
    host.outside.serve(80, "outside");
    let a = host.container(
        "a",
        Request {
            ports: [("80/tcp".to_owned(), vec![PortBinding { host_port: "8080".into(), ..PortBinding::default() }])]
                .into(),
            ..on("one")
        },
    );
    let post = |path: &str, body: Value| host.ask(Method::POST, path, body);
    let fine = (200, Value::Null);
    let message = |status: u16, words: &str| (status, json!({ "message": words }));
    assert_eq!(post("/networks/two/connect", json!({"Container": "a", "EndpointConfig": {"Aliases": ["x"]}})), fine);
    let (id, words) = (long_id("a"), "endpoint with name a already exists in network two");
    assert_eq!(post("/networks/two/connect", json!({"Container": "a"})), message(403, words));
    assert_eq!(host.outside.ask("192.0.2.1:8080").expect("published"), "a 192.0.2.9");
    assert_eq!(resolve(&a, "x.", RecordType::A).split(' ').count(), 2);
    let delete = host.ask(Method::DELETE, "/networks/two", Value::Null);
    let endpoint = host.settings("a")["Networks"]["two"]["EndpointID"].as_str().expect("one")[..12].to_owned();
    let words =
        format!("error while removing network: network two has active endpoints (name:\"a\" id:\"{endpoint}\")");
    assert_eq!(delete, message(403, &words));

    // A link that can't be made: nothing has changed.
    let before = host.settings("a");
    let named =
        json!({"Container": "a", "EndpointConfig": {"DriverOpts": {"com.docker.network.endpoint.ifname": "eth1"}}});
    let (status, answer) = post("/networks/bridge/connect", named);
    assert!(
        status == 500 && answer["message"].as_str().is_some_and(|words| words.ends_with("File exists")),
        "{answer}"
    );
    assert_eq!((host.settings("a"), host.inspect("bridge")["Containers"].clone()), (before, json!({})));

    // The way out and the ports are the other network's from now on.
    assert_eq!(post("/networks/one/disconnect", json!({"Container": "a"})), fine);
    assert_eq!(a.ask("192.0.2.9:80").expect("the outside"), "outside 192.0.2.1");
    assert_eq!(host.outside.ask("192.0.2.1:8080").expect("published"), "a 192.0.2.9");
    let cases = [
        (
            "/networks/one/disconnect",
            json!({"Container": "a"}),
            message(500, &format!("container {id} is not connected to network one")),
        ),
        ("/networks/one/disconnect", json!({"Container": "a", "Force": true}), message(404, "endpoint a not found")),
        ("/networks/one/disconnect", json!({"Container": "zz"}), message(404, "No such container: zz")),
        ("/networks/one/disconnect", json!({"Container": "zz", "Force": true}), message(404, "endpoint zz not found")),
        ("/networks/nope/connect", json!({"Container": "a"}), message(404, "network nope not found")),
        (
            "/networks/host/connect",
            json!({"Container": "a"}),
            message(400, "cannot connect container to host network - container must be created in host network mode"),
        ),
        (
            "/networks/none/connect",
            json!({"Container": "a"}),
            message(
                400,
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
        ),
        (
            "/networks/one/connect",
            json!({"Container": "a", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}}),
            message(400, "invalid endpoint settings:\nno configured subnet contains IP address 10.0.0.1"),
        ),
        (
            "/networks/bridge/connect",
            json!({"Container": "a", "EndpointConfig": {"Aliases": ["y"], "IPAMConfig": {"IPv4Address": "172.17.0.9"}}}),
            message(
                400,
                "invalid endpoint settings:\n* user-specified IP address is supported on user-defined networks only\n* network-scoped aliases are only supported for user-defined networks",
            ),
        ),
    ];
    for (path, body, expected) in cases {
        assert_eq!(post(path, body.clone()), expected, "{path} {body}");
    }

    host.stop("a");
    assert_eq!(host.networks.networks_of(&id, 51)["two"].ip_address, "");
    assert_eq!(
        post("/networks/one/disconnect", json!({"Container": "a"})),
        message(500, &format!("container {id} is not connected to the network one"))
    );
    assert_eq!(
        post("/networks/one/connect", json!({"Container": "a", "EndpointConfig": {"MacAddress": "02:42:ac:11:00:02"}})),
        fine
    );
    assert_eq!(host.networks.networks_of(&id, 51)["one"].mac_address, "02:42:ac:11:00:02");
    assert_eq!(host.events(), ["connect one a", "connect two a", "disconnect one a", "disconnect two a"]);
    let names = host.networks.networks_of(&id, 44)["two"].aliases.clone();
    assert_eq!(names, Some(vec!["x".into(), "aaaaaaaaaaaa".into(), "host-a".into()]), "as before API 1.45");

    host.declare("b", on("later")).expect("declared: the network may come");
    let b = Namespace::new();
    assert_eq!(host.start("b", &b), Err("404 failed to set up container networking: network later not found".into()));
    host.create(json!({"Name": "later"}));
    host.start("b", &b).expect("started");
    host.declare("c", on("host")).expect("declared");
    host.start("c", &host.namespace).expect("started");
    assert_eq!(host.file("c", "hosts"), "127.0.0.1 localhost the-host\n");
    let (status, answer) = post("/networks/one/connect", json!({"Container": "c"}));
    assert_eq!(
        (status, answer["message"].as_str()),
        (
            400,
            Some(
                "container sharing network namespace with another container or host cannot be connected to any other network"
            )
        )
    );
    assert!(host.settings("c")["Networks"]["host"]["EndpointID"].as_str().is_some_and(|id| id.len() == 64));
}

#[test]
fn a_restart_takes_back_what_runs() {
    let mut host = Host::new();
    let id = host.create(json!({"Name": "one"}));
    let ports: PortBindings =
        [("80/tcp".to_owned(), vec![PortBinding { host_port: "8080".into(), ..PortBinding::default() }])].into();
    let a = host.container("a", Request { ports, ..on("one") });
    let b = host.container("b", on("one"));
    let c = host.container("c", on("one"));
    let before = host.settings("a");
    host.networks.inner.state.lock().members.remove(&long_id("c"));
    host.restart(&[("a", Some(&a)), ("b", None)]);
    assert_eq!(host.inspect("one")["Id"], json!(id));
    assert_eq!(host.settings("a"), before);
    assert_eq!(host.outside.ask("192.0.2.1:8080").expect("published"), "a 192.0.2.9");
    assert_eq!(host.namespace.ask("[::1]:8080").expect("spliced"), "a 172.18.0.1");
    assert_eq!(resolve(&a, "a.", RecordType::A), "NoError 172.18.0.2");
    assert!(host.namespace.run(|| std::net::TcpListener::bind("0.0.0.0:8080").is_err()), "it is still held");
    assert_eq!(host.inspect("one")["Containers"].as_object().expect("containers").len(), 1);
    assert!(host.namespace.ask("172.18.0.3:80").is_err() && host.namespace.ask("172.18.0.4:80").is_err());
    host.start("b", &b).expect("started again");
    assert_eq!(host.settings("b")["Networks"]["one"]["IPAddress"], json!("172.18.0.3"));
    drop(c);

    host.run(|networks| async move { networks.remove().await }).expect("removed");
    let mut links = host.namespace.run(|| crate::links::names("")).expect("listed");
    links.retain(|link| link != "tugtest0" && (link.starts_with("tug") || link.starts_with("br-")));
    assert_eq!(links, Vec::<String>::new());
}

#[test]
fn links_are_named_and_switched_as_asked() {
    let host = Host::new();
    host.create(json!({"Name": "one", "Options": {"com.docker.network.container_iface_prefix": "net"},
        "IPAM": {"Config": [{"Subnet": "10.5.0.0/24", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.5.0.200"}}]}}));
    let options = json!({"com.docker.network.endpoint.ifname": "front",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.ifname.gc_stale_time=7"});
    let a = host.container(
        "a",
        with("bridge", json!({"DriverOpts": options, "IPAMConfig": {"LinkLocalIPs": ["169.254.8.8"]}})),
    );
    let connected = host.ask(Method::POST, "/networks/one/connect", json!({"Container": "a"}));
    assert_eq!(connected, (200, Value::Null));
    let read = |path: &str| a.run(|| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok());
    assert_eq!(read("/proc/sys/net/ipv4/conf/front/log_martians").as_deref(), Some("1"));
    assert_eq!(read("/proc/sys/net/ipv4/neigh/front/gc_stale_time").as_deref(), Some("7"));
    let mut addresses = a.run(|| crate::links::addresses().expect("listed"));
    addresses.sort();
    let addresses: Vec<String> = addresses.iter().map(|(link, net)| format!("{link} {net}")).collect();
    assert_eq!(addresses, ["front 169.254.8.8/16", "front 172.17.0.2/16", "lo 127.0.0.1/8", "net0 10.5.0.2/24"]);
    let settings = host.settings("a")["Networks"].clone();
    assert_eq!(settings["one"]["Gateway"], json!("10.5.0.200"));
    assert_eq!(settings["bridge"]["IPAMConfig"], json!({"LinkLocalIPs": ["169.254.8.8"]}));
    let wrong = with("bridge", json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1"}}));
    let words = "400 invalid config for network bridge: invalid endpoint settings:\nunrecognised network interface sysctl \
                 'net.ipv4.ip_forward=1'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or \
                 'mpls'";
    assert_eq!(host.declare("b", wrong), Err(words.into()));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let host = Host::new();
    host.create(json!({"Name": "one", "IPAM": {"Config": [{"Subnet": "10.5.0.0/30"}]}}));
    let links = || host.namespace.run(|| crate::links::names("tugd")).expect("listed");
    host.declare("a", on("one")).expect("declared");
    let gone = (long_id("a"), PathBuf::from("/proc/none/ns/net"));
    let failure = host.run(|networks| async move { networks.start(&gone.0, &gone.1).await }).map_err(words);
    let failure = failure.expect_err("there is no such namespace");
    assert!(failure.starts_with("500 failed to set up container networking: opening network namespace"), "{failure}");
    assert_eq!((links(), host.settings("a")["SandboxID"].clone()), (Vec::new(), json!("")));

    // Its address is free again, and the only one.
    let _b = host.container("b", on("one"));
    assert_eq!(host.settings("b")["Networks"]["one"]["IPAddress"], json!("10.5.0.2"));
    let failure = host.start("a", &Namespace::new()).expect_err("none is left");
    let begins =
        "500 failed to set up container networking: no available IPv4 addresses on this network's address pools: one (";
    assert!(failure.starts_with(begins), "{failure}");
    host.declare("c", with("one", json!({"IPAMConfig": {"IPv4Address": "10.5.0.2"}}))).expect("declared");
    let taken = Err("403 failed to set up container networking: Address already in use".to_owned());
    assert_eq!(host.start("c", &Namespace::new()), taken);
    assert_eq!(links().len(), 1);
    host.stop("b");
    // Whoever wants the address waits until it is free.
    host.start("c", &Namespace::new()).expect("it is free");
    assert_eq!(host.ask(Method::DELETE, "/networks/one", Value::Null).0, 403);
    for name in ["a", "b", "c"] {
        let id = long_id(name);
        host.run(|networks| async move { networks.forget(&id).await.and(networks.forget(&id).await) }).expect("gone");
    }
    assert_eq!(host.ask(Method::DELETE, "/networks/one", Value::Null), (204, Value::Null));
    host.run(|networks| async move { networks.gone(|_| true).await });
    assert_eq!(links(), Vec::<String>::new());
}

#[test]
fn names_follow_the_container() {
    let host = Host::new();
    host.create(json!({"Name": "one"}));
    let a = host.container("a", on("one"));
    let _b = host.container("b", on("one"));
    let id = long_id("b");
    host.run(|networks| async move { networks.rename(&id, "bee").await }).expect("renamed");
    assert_eq!(resolve(&a, "bee.", RecordType::A), "NoError 172.18.0.3");
    assert_eq!(resolve(&a, "3.0.18.172.in-addr.arpa.", RecordType::PTR), "NoError bee.one.");
    assert_eq!(host.settings("b")["Networks"]["one"]["DNSNames"][0], json!("bee"));
    assert_eq!(host.inspect("one")["Containers"][long_id("b")]["Name"], json!("bee"));

    // On the default bridge, links stand in the hosts file, and there is no resolver.
    let _c = host.container("c", on("bridge"));
    let links = vec!["c:sea".to_owned()];
    let extra_hosts = vec!["db:10.0.0.7".to_owned(), "host.docker.internal:host-gateway".to_owned()];
    let _d = host.container("d", Request { links, extra_hosts, domainname: "a.org".into(), ..on("bridge") });
    let hosts = host.file("d", "hosts");
    let own: Vec<&str> = hosts.lines().skip(6).collect();
    let expected = [
        "10.0.0.7\tdb",
        "172.17.0.1\thost.docker.internal",
        "172.17.0.2\tsea host-c c",
        "172.17.0.3\thost-d.a.org host-d",
    ];
    assert_eq!(own, expected);
    assert_eq!(host.networks.told(&long_id("d")).resolver, None);
    assert!(host.networks.is_on(&long_id("c"), "bridge") && !host.networks.is_on(&long_id("c"), "one"));
}

#[test]
fn a_containers_own_choice_of_resolvers_is_asked_as_it_sees_them() {
    let host = Host::new();
    host.create(json!({"Name": "inside", "Internal": true}));
    let a = Namespace::new();
    // On the container's own loopback.
    let socket = a.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("a free port"));
    answer_once(socket);
    host.declare("a", Request { dns: vec!["127.0.0.1".into()], ..on("inside") }).expect("declared");
    host.start("a", &a).expect("started");
    assert_eq!(resolve(&a, "example.com.", RecordType::A), "NXDomain");
}

#[test]
fn a_hosts_own_firewall_lets_containers_through() {
    use tug_network::nft::{Base, ChainType, Hook, Rule, Table, Transaction};
    let host = Host::new();
    host.outside.serve(80, "outside");
    let forward = Base { chain_type: ChainType::Filter, hook: Hook::Forward, priority: 0 };
    let drop_all = move || {
        let table = Table::ipv4("firewall");
        let mut change = Transaction::new();
        change.add_table(&table);
        change.add_base_chain(&table, "forward", forward);
        change.add_rule(&table, "forward", Rule::new().drop());
        change.commit()
    };
    host.namespace.run(drop_all).expect("put");
    host.create(json!({"Name": "one"}));
    let ports: PortBindings =
        [("80/tcp".to_owned(), vec![PortBinding { host_port: "8080".into(), ..PortBinding::default() }])].into();
    let a = host.container("a", Request { ports, ..on("one") });
    assert_eq!(a.ask("192.0.2.9:80").expect("the outside"), "outside 192.0.2.1");
    assert_eq!(host.outside.ask("192.0.2.1:8080").expect("published"), "a 192.0.2.9");
}
