//! What registries ask for (passwords, tokens) and what they may send in place of an image.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::archive::{Image, Member, layer};
use common::registry::{Registry, small_archive, store};
use common::{Node, install_crypto};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tug_engine::{Auth, Error};

const USER: &str = "tug";
const PASSWORD: &str = "s3cret";
/// The two in htpasswd's form.
const HTPASSWD: &str = "tug:$2b$04$FmygIk0QaTLRrLZJ66Ys/uudE7ps6C7F6KbtShgiD5bnrVvgrlLWq\n";
const CREDENTIALS: [&str; 2] = ["--dest-creds", "tug:s3cret"];

fn basic(password: &str) -> Auth {
    Auth::Basic { username: USER.into(), password: password.into() }
}

/// Tries each, in a store of its own: whether the pull works, else that it is refused in Docker's words.
async fn expect(host: &str, cases: &[(&str, Auth, bool)]) {
    for (repository, auth, works) in cases {
        let work = tempfile::tempdir().expect("a temporary directory");
        let pulled = store(work.path()).pull(&format!("{host}/{repository}:1"), auth.clone(), |_| {}).await;
        let words = format!(
            "pull access denied for {host}/{repository}, repository does not exist or may require 'docker login'"
        );
        match pulled {
            Ok(_) => assert!(works, "{repository} {auth:?}"),
            Err(Error::NotFound(said)) => assert!(!works && said == words, "{repository} {auth:?}: {said}"),
            Err(error) => panic!("{repository} {auth:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_sent_where_they_are_asked_for() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let passwords = work.path().join("htpasswd");
    fs::write(&passwords, HTPASSWD).expect("writing");
    let registry = Registry::with(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display()));
    registry.push(&small_archive(work.path()), "private/test:1", &CREDENTIALS);
    let cases = [
        ("private/test", Auth::Anonymous, false),
        ("private/test", basic("wrong"), false),
        ("private/test", basic(PASSWORD), true),
    ];
    expect(&registry.host, &cases).await;
}

/// A token server as the registry's documentation describes it, for one user; what is below `public/` all may read.
struct TokenServer {
    signer: jsonwebtoken::EncodingKey,
    header: jsonwebtoken::Header,
}

impl TokenServer {
    /// Its address and its certificate.
    fn start() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new([]).and_then(|params| params.self_signed(&key)).expect("a certificate");
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.x5c = Some(vec![STANDARD.encode(certificate.der())]);
        let signer = jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
        let server = TokenServer { signer, header };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| server.answer(client)));
        (address, certificate.pem())
    }

    fn answer(&self, mut client: TcpStream) {
        let lines = BufReader::new(client.try_clone().expect("cloned")).lines();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        // Somebody who only looked whether it is there.
        let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
        let credentials = head.iter().find_map(|line| {
            let (name, value) = line.split_once(": Basic ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        });
        let known = credentials.as_ref().map(|sent| *sent == STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let (status, body) = match known {
            Some(false) => ("401 Unauthorized", json!({ "errors": [] })),
            known => ("200 OK", json!({ "token": self.token(target, known.is_some()) })),
        };
        let body = body.to_string();
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        client.write_all(text.as_bytes()).expect("it is read");
    }

    fn token(&self, target: &str, known: bool) -> String {
        let target = url::Url::parse(&format!("http://tokens{target}")).expect("a target");
        let scopes = target.query_pairs().filter(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned());
        let access = scopes.filter_map(|scope| {
            let [kind, name, actions] = scope.split(':').collect::<Vec<_>>()[..] else { return None };
            let allowed = known || name.starts_with("public/") && actions == "pull";
            let actions: Vec<&str> = actions.split(',').collect();
            allowed.then(|| json!({ "type": kind, "name": name, "actions": actions }))
        });
        let access: Vec<Value> = access.collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = json!({
            "iss": "issuer", "aud": "service", "sub": if known { USER } else { "" }, "jti": now.to_string(),
            "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
        });
        jsonwebtoken::encode(&self.header, &claims, &self.signer).expect("a token")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_where_the_registry_says() {
    install_crypto();
    let work = tempfile::tempdir().expect("a temporary directory");
    let (tokens, certificate) = TokenServer::start();
    let bundle = work.path().join("bundle.pem");
    fs::write(&bundle, certificate).expect("writing");
    let registry = Registry::with(&format!(
        "auth:\n  token:\n    realm: http://{tokens}/token\n    service: service\n    issuer: issuer\n    rootcertbundle: {}\n",
        bundle.display()
    ));
    for repository in ["public/test", "private/test"] {
        registry.push(&small_archive(work.path()), &format!("{repository}:1"), &CREDENTIALS);
    }
    let cases = [
        ("public/test", Auth::Anonymous, true),
        ("private/test", Auth::Anonymous, false),
        ("private/test", basic("wrong"), false),
        ("private/test", basic(PASSWORD), true),
    ];
    expect(&registry.host, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_refused_and_fetched_again() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start();
    registry.push(&small_archive(work.path()), "library/test:1", &[]);
    let tag = format!("{}/library/test:1", registry.host);
    let good = store(&work.path().join("good")).pull(&tag, Auth::Anonymous, |_| {}).await.expect("pulling");
    let manifest = good.digests[0].rsplit_once('@').expect("a digest").1;
    let document: Value = serde_json::from_slice(&fs::read(registry.blob(manifest)).expect("a blob")).expect("JSON");
    let layer = document["layers"][0]["digest"].as_str().expect("a digest");
    let by_digest = format!("{}/library/test@{manifest}", registry.host);
    let cases = [
        ("the manifest", manifest, &by_digest, "verifying the manifest"),
        ("the configuration", &good.id, &tag, "verifying a layer"),
        ("a layer", layer, &tag, "verifying a layer"),
    ];
    for (case, digest, reference, words) in cases {
        let images = store(&work.path().join(digest.replace(':', "-")));
        let blob = registry.blob(digest);
        let whole = fs::read(&blob).expect("a blob");
        let mut damaged = whole.clone();
        // Inside a number or a name, or the compressed data: as long as before, and JSON still.
        let place = damaged.iter().rposition(u8::is_ascii_digit).expect("a digit");
        damaged[place] = if damaged[place] == b'1' { b'2' } else { b'1' };
        fs::write(&blob, damaged).expect("writing");
        let error = images.pull(reference, Auth::Anonymous, |_| {}).await.expect_err(case).to_string();
        assert!(error.contains(words), "{case}: {error}");
        assert!(images.list().is_empty(), "{case}");
        fs::write(&blob, whole).expect("writing");
        images.pull(reference, Auth::Anonymous, |_| {}).await.expect(case);
    }
}

/// `cap_net_raw` permitted and effective, as `setcap` writes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_layers_is_in_the_container() {
    let node = Node::new().await;
    let registry = Registry::start();
    let lower = layer(&[
        Member::directory("etc"),
        Member::file("etc/kept", b"kept\n"),
        Member::file("etc/gone", b"gone\n"),
        Member::link("etc/hard", "etc/kept"),
        Member::symlink("etc/soft", "kept"),
        Member::directory("opaque"),
        Member::file("opaque/hidden", b""),
        Member::directory("whole"),
        Member::file("whole/inside", b""),
        Member::file("etc/able", b"")
            .mode(0o755)
            .owner(33, 33)
            .xattr("security.capability", &CAPABILITY)
            .xattr("user.note", b"n\0b"),
        Member::directory("noted").xattr("user.note", b"d").xattr("trusted.overlay.opaque", b"y"),
    ]);
    let upper = layer(&[
        Member::file("etc/.wh.gone", b""),
        Member::file(".wh.whole", b""),
        Member::directory("opaque"),
        Member::file("opaque/.wh..wh..opq", b""),
        Member::file("opaque/new", b""),
    ]);
    let path = node.path().join("image.tar");
    let mut layers = Image::busybox().layers;
    layers.extend([lower, upper]);
    Image::new("test:1", layers).write(&path);
    for (number, more) in [&[][..], &["--dest-compress-format", "zstd", "--format", "oci"]].into_iter().enumerate() {
        let name = format!("library/test:{number}");
        registry.push(&path, &name, more);
        let pulled = node.engine.images().pull(&format!("{}/{name}", registry.host), Auth::Anonymous, |_| {}).await;
        let pulled = pulled.expect("pulling");
        let line = "ls -A /opaque; ls -d /whole /etc/gone 2>/dev/null; cat /etc/hard /etc/soft;
            stat -c %h /etc/kept";
        let spec = node.spec_of(&format!("case-{number}"), &pulled.id, &["sh", "-c", line]);
        assert_eq!(node.run(spec).await, (0, "new\nkept\nkept\n2\n".into()));
        let layers = node.engine.images().layers(&pulled.id).expect("its layers");
        let attribute = |file: &str, name: &str| xattr::get(layers[1].join(file), name).expect("attributes");
        assert_eq!(attribute("etc/able", "security.capability").as_deref(), Some(&CAPABILITY[..]));
        assert_eq!(attribute("etc/able", "user.note").as_deref(), Some(&b"n\0b"[..]));
        assert_eq!(attribute("noted", "user.note").as_deref(), Some(&b"d"[..]));
        assert_eq!(attribute("noted", "trusted.overlay.opaque"), None, "an image is no overlay");
    }
    node.finish().await;
}
