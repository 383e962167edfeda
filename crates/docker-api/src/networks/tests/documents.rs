//! Networks by themselves: what is made of a request, what is refused, what is shown.

use super::*;

#[test]
fn what_makes_no_sense_is_refused_in_dockerds_words() {
    let host = Host::new();
    host.create(json!({"Name": "taken", "IPAM": {"Config": [{"Subnet": "10.9.0.0/16"}]},
        "Options": {"com.docker.network.bridge.name": "tugtaken"}}));
    host.create(json!({"Name": "shape", "ConfigOnly": true, "Labels": {"a": "b"}}));
    let config = |config: Value| json!({"Name": "x", "EnableIPv6": true, "IPAM": {"Config": [config]}});
    let option = |name: &str, value: &str| json!({"Name": "x", "Options": {name: value}});
    let cases = [
        (json!({"Name": "bridge"}), 403, "operation is not permitted on predefined bridge network "),
        (json!({"Name": " "}), 400, "invalid name: name is empty"),
        (json!({"Name": "taken"}), 409, "network with name taken already exists"),
        (json!({"Name": "x", "Driver": "host"}), 403, "only one instance of \"host\" network is allowed"),
        (
            json!({"Name": "x", "Driver": "weave"}),
            404,
            "could not find plugin weave in v1 plugin registry: plugin not found",
        ),
        (json!({"Name": "x", "EnableIPv4": false}), 400, "IPv4 or IPv6 must be enabled"),
        (json!({"Name": "x", "Ingress": true}), 403, "Ingress network can only be global scope network"),
        (json!({"Name": "x", "Scope": "swarm"}), 403, "cannot create a swarm scoped network when swarm is not active"),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.9.1.0/24"}]}}),
            403,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]}}),
            403,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            config(json!({"Subnet": "10.0.0.0"})),
            400,
            "invalid network config:\ninvalid subnet 10.0.0.0: invalid CIDR block notation",
        ),
        (
            config(json!({"Subnet": "10.1.2.3/8"})),
            400,
            "invalid network config:\ninvalid subnet 10.1.2.3/8: it should be 10.0.0.0/8",
        ),
        (
            config(json!({"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.0/16"})),
            400,
            "invalid network config:\ninvalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.1.0.0/24",
        ),
        (
            config(json!({"Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25"})),
            400,
            "invalid network config:\ninvalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range",
        ),
        (
            config(json!({"Subnet": "2001:db8::/64", "IPRange": "10.2.0.0/25"})),
            400,
            "invalid network config:\ninvalid ip-range 10.2.0.0/25: parent subnet is an IPv6 block",
        ),
        (
            config(json!({"Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1", "AuxiliaryAddresses": {"a": "2001:db8::1"}})),
            400,
            "invalid network config:\n* invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address\n\
             * invalid auxiliary address a: parent subnet is an IPv4 block",
        ),
        (
            option("com.docker.network.bridge.enable_icc", "maybe"),
            400,
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid \
             syntax)",
        ),
        (
            option("com.docker.network.driver.mtu", "big"),
            400,
            "failed to parse com.docker.network.driver.mtu value: big (strconv.Atoi: parsing \"big\": invalid syntax)",
        ),
        (
            json!({"Name": "x", "ConfigFrom": {"Network": "none-such"}}),
            404,
            "configuration network \"none-such\" does not exist",
        ),
        (
            json!({"Name": "x", "ConfigFrom": {"Network": "shape"}, "Labels": {"c": "d"}}),
            403,
            "user-specified configurations are not supported if the network depends on a configuration network",
        ),
        (
            json!({"Name": "x", "ConfigOnly": true, "Internal": true}),
            403,
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
             internal | attachable | scope ] are not supported.",
        ),
    ];
    for (document, status, message) in cases {
        let answer = host.ask(Method::POST, "/networks/create", document.clone());
        assert_eq!(answer, (status, json!({ "message": message })), "{document}");
    }
    let paths = [
        (Method::GET, "/networks/nope", 404, "network nope not found"),
        (Method::DELETE, "/networks/nope", 404, "network nope not found"),
        (Method::DELETE, "/networks/bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        (Method::GET, "/networks?filters={\"colour\":[\"red\"]}", 400, "invalid filter 'colour'"),
        (Method::GET, "/networks?filters={\"type\":[\"red\"]}", 400, "invalid filter: 'type'='red'"),
        (
            Method::GET,
            "/networks/bridge?verbose=perhaps",
            400,
            "invalid value for verbose: perhaps: strconv.ParseBool: parsing \"perhaps\": invalid syntax",
        ),
        (Method::GET, "/networks/bridge?scope=swarm", 404, "network bridge not found"),
        (Method::POST, "/networks/prune?filters={\"name\":[\"x\"]}", 400, "invalid filter 'name'"),
    ];
    for (method, path, status, message) in paths {
        assert_eq!(host.ask(method, path, Value::Null), (status, json!({ "message": message })), "{path}");
    }
    let conflict = host.ask(
        Method::POST,
        "/networks/create",
        json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "tugtaken"}}),
    );
    let message = conflict.1["message"].as_str().expect("words");
    assert!(message.ends_with("(tugtaken): networks have same bridge name"), "{message}");
}

#[test]
fn networks_are_shown_as_moby_shows_them() {
    let host = Host::new();
    let bridge = host.inspect("bridge");
    let options = json!({
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": "tug-docker0",
        "com.docker.network.driver.mtu": "1500",
    });
    let expected = json!({
        "Name": "bridge", "Id": bridge["Id"], "Created": bridge["Created"], "Scope": "local", "Driver": "bridge",
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": {}, "Options": options, "Labels": {},
    });
    assert_eq!(bridge, expected);
    for (name, driver) in [("host", "host"), ("none", "null")] {
        let shown = host.inspect(name);
        assert_eq!((&shown["Driver"], &shown["IPAM"]["Config"]), (&json!(driver), &Value::Null));
    }

    // docker-py's `test_create_network_with_ipam_config`.
    let config = json!({"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "Gateway": "172.28.5.254",
        "AuxiliaryAddresses": {"a": "172.28.1.5", "b": "172.28.1.6", "c": "172.28.1.7"}});
    let id = host
        .create(json!({"Name": "test 01", "CheckDuplicate": true, "IPAM": {"Driver": "default", "Config": [config]},
        "Labels": {"a": "b"}, "Attachable": true, "Internal": true, "Options": null}));
    for term in ["test 01", &id, &id[..5]] {
        let shown = host.inspect(term);
        assert_eq!(shown["Id"], json!(id), "{term}");
        assert_eq!(shown["IPAM"]["Config"], json!([config]));
        assert_eq!((&shown["Attachable"], &shown["Internal"]), (&json!(true), &json!(true)));
    }

    let names = |filters: &str| {
        let (status, answer) = host.ask(Method::GET, &format!("/networks?filters={filters}"), Value::Null);
        assert_eq!(status, 200, "{filters}");
        let networks = answer.as_array().expect("a list");
        let mut names: Vec<String> = networks.iter().map(|n| n["Name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names.join(",")
    };
    let cases = [
        ("", "bridge,host,none,test 01"),
        ("{\"driver\":[\"bridge\"]}", "bridge,test 01"),
        ("{\"driver\":{\"null\":true}}", "none"),
        ("{\"name\":[\"t%200\"]}", "test 01"),
        ("{\"name\":[\"^ho\",\"none\"]}", "host,none"),
        ("{\"label\":[\"a\"]}", "test 01"),
        ("{\"label\":[\"a=c\"]}", ""),
        ("{\"type\":[\"custom\"]}", "test 01"),
        ("{\"type\":[\"builtin\"]}", "bridge,host,none"),
        ("{\"scope\":[\"swarm\"]}", ""),
        ("{\"dangling\":[\"true\"]}", "test 01"),
        ("{\"dangling\":[\"false\"]}", "bridge,host,none"),
    ];
    for (filters, expected) in cases {
        assert_eq!(names(filters), expected, "{filters}");
    }
    assert_eq!(names(&format!("{{\"id\":[\"{}\"]}}", &id[..9])), "test 01");

    let pruned = host.ask(Method::POST, "/networks/prune?filters={\"label!\":[\"a\"]}", Value::Null);
    assert_eq!(pruned, (200, json!({"NetworksDeleted": null})));
    let pruned = host.ask(Method::POST, "/networks/prune?filters={\"until\":[\"1h\"]}", Value::Null);
    assert_eq!(pruned, (200, json!({"NetworksDeleted": null})));
    let pruned = host.ask(Method::POST, "/networks/prune", Value::Null);
    assert_eq!(pruned, (200, json!({"NetworksDeleted": ["test 01"]})));
    assert_eq!(host.events(), ["create test 01", "prune", "prune", "destroy test 01", "prune"]);
}

#[test]
fn subnets_are_chosen_from_dockerds_pools() {
    let host = Host::new();
    // What the host reaches itself is left alone.
    host.namespace.give("uplink", "172.19.4.1/24");
    let subnet = |name: &str, more: Value| {
        let mut document = json!({ "Name": name });
        document.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        host.create(document);
        let configs = host.inspect(name)["IPAM"]["Config"].clone();
        let shown = |config: &Value| {
            format!("{} {}", config["Subnet"].as_str().expect("one"), config["Gateway"].as_str().expect("one"))
        };
        configs.as_array().expect("a list").iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(subnet("one", json!({})), "172.18.0.0/16 172.18.0.1");
    assert_eq!(subnet("two", json!({})), "172.20.0.0/16 172.20.0.1");
    let asked = json!({"IPAM": {"Config": [{"Subnet": "172.21.0.0/24", "IPRange": "172.21.0.64/26"}]}});
    assert_eq!(subnet("three", asked), "172.21.0.0/24 172.21.0.64");
    assert_eq!(subnet("four", json!({})), "172.22.0.0/16 172.22.0.1");
    let sized = json!({"IPAM": {"Config": [{"Subnet": "0.0.0.0/24"}]}});
    assert_eq!(subnet("five", sized), "172.19.0.0/24 172.19.0.1");
    let both = subnet("six", json!({"EnableIPv6": true}));
    assert!(
        both.starts_with("172.23.0.0/16 172.23.0.1, fd") && both.ends_with("::1") && both.contains("/64"),
        "{both}"
    );
    let only = json!({"EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "2001:db8:1::/64"}]}});
    assert_eq!(subnet("seven", only), "2001:db8:1::/64 2001:db8:1::1");
}

#[test]
fn all_pools_may_be_taken() {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a net")).collect::<Vec<ipnet::IpNet>>();
    let taken = nets(&["172.16.0.0/12", "192.168.0.0/17"]);
    let ipv6 = ipam::unique_local("0123456789abcdef");
    assert_eq!(ipv6.to_string(), "fd01:2345:6789::/48");
    let pools = |networks: &[ipnet::IpNet]| {
        let taken = ipam::Taken { networks, host: &[], ipv6 };
        let pools = ipam::pools(&document::Ipam::default(), true, false, &taken);
        pools.map(|pools| pools[0].subnet.to_string()).map_err(words)
    };
    assert_eq!(pools(&taken).as_deref(), Ok("192.168.128.0/20"));
    let all = nets(&["172.16.0.0/12", "192.168.0.0/16"]);
    assert_eq!(pools(&all), Err("400 all predefined address pools have been fully subnetted".into()));
}
