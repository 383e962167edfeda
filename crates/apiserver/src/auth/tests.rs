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
