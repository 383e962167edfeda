//! Whose certificates a registry may have, and the certificates that it may ask for: Docker's `/etc/docker/certs.d`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::install_crypto;
use common::registry::{Registry, small_archive, store};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tug_engine::Auth;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Runs `work` in a thread whose `/etc` is a copy that others don't see.
fn with_own_etc<T: Send + 'static>(upper: PathBuf, work: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
        let (diff, scratch) = (upper.join("diff"), upper.join("scratch"));
        fs::create_dir_all(&diff).and_then(|()| fs::create_dir_all(&scratch)).expect("directories");
        let options = format!("lowerdir=/etc,upperdir={},workdir={}", diff.display(), scratch.display());
        mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str())).expect("an overlay");
        work()
    };
    std::thread::spawn(run).join().expect("no panic")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, key()).expect("an authority")
}

/// A registry with this certificate, and the name by which it is asked.
struct Server {
    registry: Registry,
    host: String,
    work: tempfile::TempDir,
}

impl Server {
    fn start(certificate: &Certificate, key: &KeyPair, clients: Option<&Authority>) -> Self {
        let work = tempfile::tempdir().expect("a temporary directory");
        let place = |name: &str, text: String| {
            let path = work.path().join(name);
            fs::write(&path, text).expect("writing");
            path.display().to_string()
        };
        let (cert, key) = (place("cert.pem", certificate.pem()), place("key.pem", key.serialize_pem()));
        let mut config = format!("  tls:\n    certificate: {cert}\n    key: {key}\n");
        if let Some(clients) = clients {
            config += &format!("    clientcas:\n      - {}\n", place("clients.pem", clients.pem()));
        }
        let registry = Registry::with(&config);
        let port = registry.host.rsplit_once(':').expect("a port").1;
        let host = format!("registry.test:{port}");
        Server { registry, host, work }
    }

    fn push(&self, more: &[&str]) {
        self.registry.push(&small_archive(self.work.path()), "library/test:1", more);
    }

    /// What a pull from `host` says that finds these files in the registry's directory.
    fn pull(&self, host: &str, files: &[(&str, String)]) -> Result<(), String> {
        let etc = tempfile::tempdir_in(&self.work).expect("a temporary directory").keep();
        let (data, host) = (etc.join("data"), host.to_owned());
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        with_own_etc(etc, move || {
            fs::write("/etc/hosts", "127.0.0.1 registry.test\n").expect("writing");
            let directory = Path::new("/etc/docker/certs.d").join(&host);
            fs::create_dir_all(&directory).expect("a directory");
            for (name, text) in files {
                fs::write(directory.join(name), text).expect("writing");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            // The threads that look names up must be made here, where /etc is this one.
            let (images, name) = (store(&data), format!("{host}/library/test:1"));
            runtime.block_on(images.pull(&name, Auth::Anonymous, |_| {})).map(|_| ()).map_err(|error| error.to_string())
        })
    }
}

#[test]
fn authorities_of_ones_own_are_trusted() {
    install_crypto();
    let (trusted, other) = (authority("trusted"), authority("other"));
    let server_key = key();
    let names = CertificateParams::new(["registry.test".to_owned()]).expect("a name");
    let server = Server::start(&names.signed_by(&server_key, &trusted).expect("a certificate"), &server_key, None);
    server.push(&[]);
    let crt = |authority: &Authority| vec![("ca.crt", authority.pem())];
    let cases = [
        ("none", &server.host, vec![], false),
        ("another", &server.host, crt(&other), false),
        ("its own", &server.host, crt(&trusted), true),
        ("none is needed on the loopback", &server.registry.host, vec![], true),
    ];
    for (name, host, files, works) in cases {
        match server.pull(host, &files) {
            Ok(()) => assert!(works, "{name}"),
            Err(error) => assert!(!works && error.contains("certificate"), "{name}: {error}"),
        }
    }
}

/// What `openssl req -x509` makes may sign others, and is trusted as it stands.
#[test]
fn a_certificate_that_is_its_own_authority_is_trusted() {
    install_crypto();
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, &str, Change, bool); 5] = [
        ("openssl's", "registry.test", |_| {}, true),
        ("no authority", "registry.test", |params| params.is_ca = IsCa::ExplicitNoCa, true),
        ("of another name", "other.test", |_| {}, false),
        ("over", "registry.test", |params| params.not_after = date_time_ymd(2001, 1, 1), false),
        (
            "a client's",
            "registry.test",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            false,
        ),
    ];
    for (name, host, change, works) in cases {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        change(&mut params);
        let key = key();
        let certificate = params.self_signed(&key).expect("a certificate");
        let server = Server::start(&certificate, &key, None);
        server.push(&[]);
        match server.pull(&server.host, &[("ca.crt", certificate.pem())]) {
            Ok(()) => assert!(works, "{name}"),
            Err(error) => assert!(!works && error.contains("certificate"), "{name}: {error}"),
        }
        let stranger = server.pull(&server.host, &[]).expect_err(name);
        assert!(stranger.contains("certificate"), "{name}: {stranger}");
    }
}

#[test]
fn certificates_of_ones_own_are_shown_to_who_asks() {
    install_crypto();
    let (authority, other) = (authority("clients"), authority("others"));
    let server_key = key();
    let names = CertificateParams::new(["registry.test".to_owned()]).expect("a name");
    let certificate = names.self_signed(&server_key).expect("a certificate");
    let server = Server::start(&certificate, &server_key, Some(&authority));
    let pair = |authority: &Authority| {
        let key = key();
        let mut params = CertificateParams::new([]).expect("no names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
    };
    let (good, strange) = (pair(&authority), pair(&other));
    let directory = server.work.path().join("skopeo");
    fs::create_dir(&directory).expect("a directory");
    for (name, text) in [("client.cert", &good.0), ("client.key", &good.1), ("ca.crt", &certificate.pem())] {
        fs::write(directory.join(name), text).expect("writing");
    }
    server.push(&["--dest-cert-dir", &directory.display().to_string()]);

    let missing_key = "missing key client.key for client certificate client.cert. CA certificates must use the \
                       extension .crt";
    let missing_certificate = "missing client certificate client.cert for key client.key";
    // The alert may come after the request was sent, and be lost with the connection.
    let refused = "pulling: registry";
    type Files<'a> = &'a [(&'a str, &'a String)];
    let cases: [(Files<'_>, Option<&str>); 6] = [
        (&[], Some(refused)),
        (&[("client.cert", &good.0), ("client.key", &good.1)], None),
        (&[("client.cert", &strange.0), ("client.key", &strange.1)], Some(refused)),
        (&[("a.cert", &strange.0), ("a.key", &strange.1), ("b.cert", &good.0), ("b.key", &good.1)], None),
        (&[("client.cert", &good.0)], Some(missing_key)),
        (&[("client.key", &good.1)], Some(missing_certificate)),
    ];
    for (files, expected) in cases {
        let mut files: Vec<_> = files.iter().map(|(name, text)| (*name, (*text).clone())).collect();
        files.push(("ca.crt", certificate.pem()));
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        match (server.pull(&server.host, &files), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => assert!(error.contains(words), "{names:?}: {error}"),
            (said, _) => panic!("{names:?}: {said:?}"),
        }
    }
}
