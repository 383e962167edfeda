use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::auth::fake::Dir;

const FILES: [(&str, u32); 8] = [
    ("ca.key", 0o600),
    ("ca.crt", 0o644),
    ("apiserver.key", 0o600),
    ("apiserver.crt", 0o644),
    ("apiserver-kubelet-client.key", 0o600),
    ("apiserver-kubelet-client.crt", 0o644),
    ("sa.key", 0o600),
    ("sa.pub", 0o644),
];

fn load(dir: &Dir, sans: &[&str]) -> Pki {
    let sans: Vec<String> = sans.iter().map(|san| (*san).to_string()).collect();
    Pki::load_or_create(&dir.0, &sans).expect("an authority")
}

fn contents(dir: &Dir) -> Vec<String> {
    FILES.iter().map(|(name, _)| fs::read_to_string(dir.0.join(name)).expect(name)).collect()
}

#[test]
fn is_made_once_and_kept() {
    let dir = Dir::new();
    load(&dir, &["10.1.2.3"]);
    let made = contents(&dir);
    for (name, mode) in FILES {
        let held = fs::metadata(dir.0.join(name)).expect(name).permissions().mode() & 0o777;
        assert_eq!(held, mode, "{name}");
    }
    let pki = load(&dir, &["10.1.2.3"]);
    assert_eq!(contents(&dir), made);
    pki.server_config().expect("a server's TLS");
    pki.kubelet_client_config().expect("a client's TLS");
}

#[test]
fn a_new_name_renews_the_servers_certificate_alone() {
    let dir = Dir::new();
    load(&dir, &["10.1.2.3"]);
    let before = contents(&dir);
    load(&dir, &["10.1.2.3", "tug.example.com"]);
    let after = contents(&dir);
    for (index, (name, _)) in FILES.iter().enumerate() {
        assert_eq!(before[index] == after[index], *name != "apiserver.crt", "{name}");
    }
}

#[test]
fn whatever_a_crash_left_undone_is_finished() {
    // Files are made in the order in which they stand here: a crash leaves the first ones, and one half written.
    for survivors in 0..FILES.len() {
        let dir = Dir::new();
        load(&dir, &[]);
        let before = contents(&dir);
        for (name, _) in &FILES[survivors..] {
            fs::remove_file(dir.0.join(name)).expect(name);
        }
        let half = dir.0.join(FILES[survivors].0).with_extension("new");
        fs::write(half, "-----BEGIN").expect("half a file");
        let pki = load(&dir, &[]);
        let after = contents(&dir);
        assert_eq!(before[..survivors], after[..survivors], "{survivors} survived");
        let (cert, _) = pki.issue_client("jane", &[], Duration::from_secs(60)).expect("a certificate");
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate");
        let verifier = pki.client_verifier().expect("a verifier");
        verifier.verify_client_cert(&cert, &[], UnixTime::now()).expect("it is ours");
    }
}

#[test]
fn a_damaged_authority_is_not_replaced() {
    for (name, what) in [("ca.key", "key"), ("ca.crt", "certificate")] {
        let dir = Dir::new();
        load(&dir, &[]);
        fs::write(dir.0.join(name), "not it").expect("a damaged file");
        let error = Pki::load_or_create(&dir.0, &[]).err().expect("refused").to_string();
        assert!(error.contains(&format!("{name} is not a usable {what}")), "{error}");
    }
    let (dir, other) = (Dir::new(), Dir::new());
    load(&dir, &[]);
    load(&other, &[]);
    fs::copy(other.0.join("ca.crt"), dir.0.join("ca.crt")).expect("another authority's certificate");
    let error = Pki::load_or_create(&dir.0, &[]).err().expect("refused").to_string();
    assert!(error.contains("not the certificate of ca.key"), "{error}");
}
