//! What a name below the cluster's domain asks for (`plugin/kubernetes/parse.go` of CoreDNS).

use std::net::Ipv4Addr;

/// A query's name, taken apart. Labels are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// The domain itself.
    Apex,
    /// `dns-version`.
    Version,
    /// The server itself, which the SOA and NS records name: `ns.dns`.
    Server,
    /// `svc` or `pod`: there, but empty.
    Branch,
    /// `NAMESPACE.svc` or `NAMESPACE.pod`: empty, if the namespace is there.
    Namespace(&'a str),
    Service {
        namespace: &'a str,
        name: &'a str,
        /// A label before the Service's name: one endpoint's host name.
        endpoint: Option<&'a str>,
        /// Without underscores, port's name first: of `_http._tcp`.
        port: Option<(&'a str, &'a str)>,
    },
    Pod {
        namespace: &'a str,
        address: Ipv4Addr,
    },
    /// Nothing has a name of this shape.
    Nothing,
}

/// Takes apart the labels that stand before the domain.
pub(crate) fn parse<'a>(labels: &[&'a str]) -> Asked<'a> {
    match labels {
        [] => Asked::Apex,
        ["dns-version"] => Asked::Version,
        ["ns", "dns"] => Asked::Server,
        ["svc" | "pod"] => Asked::Branch,
        [namespace, "svc" | "pod"] => Asked::Namespace(namespace),
        [address, namespace, "pod"] => match dashed_address(address) {
            Some(address) => Asked::Pod { namespace, address },
            None => Asked::Nothing,
        },
        [name, namespace, "svc"] => Asked::Service { namespace, name, endpoint: None, port: None },
        [endpoint, name, namespace, "svc"] => Asked::Service { namespace, name, endpoint: Some(endpoint), port: None },
        [port, protocol, name, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
            (Some(port), Some(protocol)) => {
                Asked::Service { namespace, name, endpoint: None, port: Some((port, protocol)) }
            }
            _ => Asked::Nothing,
        },
        _ => Asked::Nothing,
    }
}

fn dashed_address(label: &str) -> Option<Ipv4Addr> {
    label.contains('-').then(|| label.replace('-', ".").parse().ok()).flatten()
}

/// The address of an `in-addr.arpa` name, given all its labels.
pub(crate) fn reverse_address(labels: &[&str]) -> Option<Ipv4Addr> {
    let [d, c, b, a, "in-addr", "arpa"] = labels else {
        return None;
    };
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let service = |endpoint, port| Asked::Service { namespace: "ns", name: "web", endpoint, port };
        let cases = [
            ("", Asked::Apex),
            ("dns-version", Asked::Version),
            ("svc", Asked::Branch),
            ("ns.svc", Asked::Namespace("ns")),
            ("ns.pod", Asked::Namespace("ns")),
            ("web.ns.svc", service(None, None)),
            ("web-0.web.ns.svc", service(Some("web-0"), None)),
            ("_http._tcp.web.ns.svc", service(None, Some(("http", "tcp")))),
            ("http.tcp.web.ns.svc", Asked::Nothing),
            ("a.b.c.web.ns.svc", Asked::Nothing),
            ("10-244-0-7.ns.pod", Asked::Pod { namespace: "ns", address: [10, 244, 0, 7].into() }),
            ("10-244-0.ns.pod", Asked::Nothing),
            ("web.ns.other", Asked::Nothing),
            ("other", Asked::Nothing),
        ];
        for (name, expected) in cases {
            let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
            assert_eq!(parse(&labels), expected, "{name}");
        }
        assert_eq!(reverse_address(&["7", "0", "244", "10", "in-addr", "arpa"]), Some([10, 244, 0, 7].into()));
        assert_eq!(reverse_address(&["0", "244", "10", "in-addr", "arpa"]), None);
    }
}
