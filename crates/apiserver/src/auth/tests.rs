use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::fake::{Dir, Registry, access};
use super::{ANONYMOUS, User};
use crate::pki::Pki;

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

#[test]
fn certificates_of_our_authority_name_their_holder() {
    let access = access(&Registry::with(&[]));
    let hour = Duration::from_secs(3600);
    let cases: [(&str, &[&str], &[&str]); 3] = [
        ("kubernetes-admin", &["system:masters"], &["system:masters", "system:authenticated"]),
        ("jane", &[], &["system:authenticated"]),
        ("system:node:n1", &["system:nodes", "more"], &["system:nodes", "more", "system:authenticated"]),
    ];
    for (name, orgs, groups) in cases {
        let (cert, _) = access.pki.issue_client(name, orgs, hour).expect("a certificate");
        // Twice: the second time it is known.
        for _ in 0..2 {
            let user = access.authenticator.authenticate(Some(&[der(&cert)]), &HeaderMap::new()).expect(name);
            assert_eq!(
                (user.name.as_str(), user.groups.iter().map(String::as_str).collect::<Vec<_>>()),
                (name, groups.into())
            );
        }
    }
}

#[test]
fn what_does_not_hold_is_refused() {
    let access = access(&Registry::with(&[]));
    let dir = Dir::new();
    let other = Pki::load_or_create(&dir.0, &[]).expect("another authority");
    let hour = Duration::from_secs(3600);
    let (foreign, _) = other.issue_client("kubernetes-admin", &["system:masters"], hour).expect("a certificate");
    let (server, _) = access.pki.issue_server("n1", &["n1".into()]).expect("a certificate");
    let mut nonsense = HeaderMap::new();
    nonsense.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc.def.ghi"));
    let none = HeaderMap::new();
    let cases = [
        ("a certificate of another authority", Some(der(&foreign)), &none),
        ("a server's certificate", Some(der(&server)), &none),
        ("no certificate at all", Some(CertificateDer::from(vec![1, 2, 3])), &none),
        ("a token that is none", None, &nonsense),
    ];
    for (what, cert, headers) in cases {
        let certs = cert.map(|cert| vec![cert]);
        let status = access.authenticator.authenticate(certs.as_deref(), headers).expect_err(what);
        assert_eq!(
            (status.code, status.reason, status.message.as_str()),
            (401, "Unauthorized", "Unauthorized"),
            "{what}"
        );
    }
}

#[test]
fn nothing_shown_is_anonymous() {
    let access = access(&Registry::with(&[]));
    let mut basic = HeaderMap::new();
    basic.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    for headers in [HeaderMap::new(), basic] {
        let user = access.authenticator.authenticate(None, &headers).expect("anonymous");
        assert_eq!(user, User::anonymous());
        assert_eq!((user.name.as_str(), user.groups), (ANONYMOUS, vec!["system:unauthenticated".to_string()]));
    }
}

#[test]
fn a_certificate_is_good_until_its_end_known_or_not() {
    let access = access(&Registry::with(&[]));
    let (cert, _) = access.pki.issue_client("jane", &[], Duration::from_secs(3600)).expect("a certificate");
    let cert = der(&cert);
    let verifier = &access.authenticator.certificates;
    let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + seconds));
    verifier.user(&cert, &[], at(4000)).expect_err("past its end");
    verifier.user(&cert, &[], at(0)).expect("within its time");
    verifier.user(&cert, &[], at(3000)).expect("within its time, and known");
    verifier.user(&cert, &[], at(4000)).expect_err("known, but past its end");
}

#[test]
fn acting_as_somebody_else() {
    let role = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "helper"},
        "rules": [
            {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]},
        ],
    });
    let binding = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "helper"},
        "roleRef": {"kind": "ClusterRole", "name": "helper"},
        "subjects": [{"kind": "User", "name": "helper"}],
    });
    let access = access(&Registry::with(&[role, binding]));
    let certificate = |name: &str, orgs: &[&str]| {
        let (cert, _) = access.pki.issue_client(name, orgs, Duration::from_secs(3600)).expect("a certificate");
        der(&cert)
    };
    let (admin, helper) = (certificate("admin", &["system:masters"]), certificate("helper", &[]));
    let anybody = ["system:authenticated"].as_slice();
    let account = ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"].as_slice();
    type Headers = [(&'static str, &'static str)];
    type Case<'a> = (&'a CertificateDer<'a>, &'a Headers, Result<&'a [&'a str], u16>);
    let cases: &[Case<'_>] = &[
        (&admin, &[("impersonate-user", "bob")], Ok(anybody)),
        (&admin, &[("impersonate-user", "bob"), ("impersonate-group", "dev")], Ok(&["dev", "system:authenticated"])),
        (&admin, &[("impersonate-user", "system:anonymous")], Ok(&["system:unauthenticated"])),
        (&admin, &[("impersonate-group", "dev")], Err(400)),
        (&helper, &[("impersonate-user", "jane")], Ok(anybody)),
        (&helper, &[("impersonate-user", "bob")], Err(403)),
        (&helper, &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")], Err(403)),
        (&helper, &[("impersonate-user", "jane"), ("impersonate-uid", "1")], Err(403)),
        (&helper, &[("impersonate-user", "jane"), ("impersonate-extra-scopes", "all")], Err(403)),
        (&helper, &[("impersonate-user", "system:serviceaccount:ns:robot")], Ok(account)),
    ];
    for (cert, lines, expected) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in *lines {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let certs = [(*cert).clone()];
        match (access.identify(Some(&certs), &headers), expected) {
            (Ok(user), Ok(groups)) => {
                assert_eq!(user.name, lines[0].1);
                assert_eq!(user.groups, *groups, "{lines:?}");
            }
            (Err(status), Err(code)) => assert_eq!(status.code, *code, "{lines:?}: {status}"),
            (result, _) => panic!("{lines:?}: {result:?}"),
        }
    }
}
