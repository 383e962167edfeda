use super::*;
use crate::pods::Protocol;
use crate::testing::Namespace;

const SERVICE: [Field; 3] = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];

fn service_key(address: &str, port: u16) -> Key {
    Key::new().address(address.parse::<std::net::IpAddr>().expect("an address")).protocol(Protocol::Tcp).port(port)
}

#[test]
fn a_refused_transaction_changes_nothing() {
    Namespace::new().run(|| {
        let table = Table::ipv4("tug-test");
        let mut change = Transaction::new();
        change.add_table(&table).add_chain(&table, "here").add_rule(&table, "here", Rule::new().jump("nowhere"));
        let error = change.commit().expect_err("there is no such chain");
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().starts_with("nftables: adding a rule to chain here: "), "{error}");
        assert_eq!(tables().expect("listed"), []);
    });
}

#[test]
fn elements_come_and_go() {
    Namespace::new().run(|| {
        let table = Table::ipv4("tug-test");
        let map = Set::map("services", &SERVICE, MapKind::Verdict);
        let mut change = Transaction::new();
        change.add_table(&table).add_set(&table, &map).add_chain(&table, "one");
        let many: Vec<Element> = (1..=1000).map(|port| Element::goto(service_key("10.96.0.1", port), "one")).collect();
        change.add_elements(&table, &map, &many);
        change.commit().expect("committed");
        assert_eq!(elements(&table, "services").expect("listed").len(), 1000);

        let mut change = Transaction::new();
        change.delete_elements(&table, &map, &[Element::key(service_key("10.96.0.1", 7))]);
        change.commit().expect("committed");
        let left = elements(&table, "services").expect("listed");
        assert_eq!(left.len(), 999);
        assert!(!left.iter().any(|(key, _)| key == service_key("10.96.0.1", 7).as_bytes()));

        delete_table(&table).expect("deleted");
        delete_table(&table).expect("deleted again");
        assert_eq!(tables().expect("listed"), []);
    });
}

/// Every expression is shown to the kernel, and rules are found by their comments.
#[test]
fn rules_of_every_sort_are_taken() {
    Namespace::new().run(|| {
        let table = Table::ipv4("tug-test");
        let sticky = Set::sticky("sticky", std::time::Duration::from_secs(10800), 1000);
        let net: ipnet::Ipv4Net = "10.244.0.0/16".parse().expect("a net");
        let base = |chain_type, hook, priority| Base { chain_type, hook, priority };
        let two = [([10, 244, 0, 2].into(), 80), ([10, 244, 0, 3].into(), 80)];
        let mut change = Transaction::new();
        change.add_table(&table).add_set(&table, &sticky);
        change.add_base_chain(&table, "pre", base(ChainType::Nat, Hook::Prerouting, PRIORITY_DSTNAT));
        change.add_base_chain(&table, "post", base(ChainType::Nat, Hook::Postrouting, PRIORITY_SRCNAT));
        change.add_base_chain(&table, "forward", base(ChainType::Filter, Hook::Forward, -110));
        for rule in [
            Rule::new().source_not_in(net).mark(0x4000),
            Rule::new().protocol(Protocol::Tcp).translate_as_before("sticky"),
            Rule::new().protocol(Protocol::Tcp).translate_and_remember(&two, "sticky"),
            Rule::new().protocol(Protocol::Udp).destination_local().translate_to(&two),
            Rule::new().protocol(Protocol::Udp).destination_port(53).translate_to(&two[..1]).comment("one"),
        ] {
            change.add_rule(&table, "pre", rule);
        }
        change.add_rule(&table, "post", Rule::new().marked(0x4000).unmark(0x4000).masquerade());
        let refuse = Rule::new().new_connection().destination_in(net).destination_not_local().count().reject();
        change.add_rule(&table, "forward", refuse);
        change.add_rule(&table, "forward", Rule::new().translated().input("a").not_output("b").accept());
        change.commit().expect("committed");

        let found = rules(&table).expect("listed");
        assert_eq!(found.len(), 8);
        let named: Vec<_> = found.iter().filter(|rule| rule.comment.as_deref() == Some("one")).collect();
        assert_eq!(named.len(), 1);
        let mut change = Transaction::new();
        change.delete_rule(&table, "pre", named[0].handle).flush_chain(&table, "post");
        change.commit().expect("committed");
        assert_eq!(rules(&table).expect("listed").len(), 6);
    });
}

/// What isn't given again goes; base chains stay where they hang; a table of another shape is no obstacle.
#[test]
fn a_table_is_refilled_in_place() {
    Namespace::new().run(|| {
        let table = Table::ipv4("tug-test");
        let (kept, gone) = (Set::map("kept", &SERVICE, MapKind::Verdict), Set::map("gone", &SERVICE, MapKind::Verdict));
        let base = Base { chain_type: ChainType::Nat, hook: Hook::Prerouting, priority: PRIORITY_DSTNAT };
        let mut change = Transaction::refill(&table).expect("nothing is there");
        for set in [&kept, &gone] {
            change.add_set(&table, set);
        }
        change.add_chain(&table, "one").add_chain(&table, "two").add_base_chain(&table, "pre", base);
        for set in [&kept, &gone] {
            change.add_elements(&table, set, &[Element::goto(service_key("10.96.0.1", 1), "one")]);
            change.add_elements(&table, set, &[Element::goto(service_key("10.96.0.1", 2), "two")]);
            change.add_rule(&table, "pre", Rule::new().verdict_of(&SERVICE, &set.name));
        }
        change.commit().expect("committed");
        let handle = |name: &str| {
            let listed = std::process::Command::new("nft").args(["-a", "list", "table", "ip", "tug-test"]).output();
            let listed = String::from_utf8(listed.expect("nft runs").stdout).expect("text");
            listed.lines().find(|line| line.contains(&format!("chain {name} {{"))).map(str::to_owned)
        };
        let before = (handle("pre"), handle("one"));
        assert!(before.0.is_some() && handle("two").is_some());

        let mut change = Transaction::refill(&table).expect("listed");
        change.add_set(&table, &kept).add_chain(&table, "one").add_base_chain(&table, "pre", base);
        change.add_elements(&table, &kept, &[Element::goto(service_key("10.96.0.1", 3), "one")]);
        change.add_rule(&table, "pre", Rule::new().verdict_of(&SERVICE, "kept"));
        change.commit().expect("committed");
        assert_eq!((handle("pre"), handle("one")), before);
        assert_eq!(handle("two"), None);
        assert_eq!(rules(&table).expect("listed").len(), 1);
        assert_eq!(sets(&table).expect("listed").iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ["kept"]);
        let left = elements(&table, "kept").expect("listed");
        assert_eq!(
            left.iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(),
            [service_key("10.96.0.1", 3).as_bytes()]
        );

        let mut change = Transaction::refill(&table).expect("listed");
        change.add_set(&table, &Set::new("kept", &SERVICE));
        change.add_base_chain(&table, "pre", Base { hook: Hook::Output, ..base });
        change.commit().expect("made anew");
        assert_ne!(handle("pre"), before.0);
        assert_eq!(rules(&table).expect("listed"), []);
    });
}
