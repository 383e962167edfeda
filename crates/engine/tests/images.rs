//! The image store against a real registry (Debian's docker-registry), filled by skopeo.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::archive::{Image, Member, layer};
use common::install_crypto;
use common::registry::Registry;
use tug_engine::{Auth, Config, Error, Images, Loaded, PullProgress, Removal};

fn config(data: &Path, mirror: Option<&str>) -> Config {
    let mirrors = mirror.map(|m| ("docker.io".to_owned(), vec![format!("http://{m}")])).into_iter().collect();
    Config { data_dir: data.into(), mirrors, ..common::config(data, "/tug-test") }
}

/// A `docker save` archive of these layers, tagged `test:1`.
fn image(path: &Path, layers: &[Vec<u8>]) {
    Image::new("test:1", layers.to_vec()).write(path);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_a_mirror_whole_and_once() {
    install_crypto();
    let registry = Registry::start();
    let work = tempfile::tempdir().expect("a temporary directory");
    let archive = work.path().join("image.tar");
    let lower = layer(&[
        Member::directory("etc"),
        Member::file("etc/kept", b"kept").mode(0o640).owner(12, 34),
        Member::file("etc/gone", b"gone"),
        Member::directory("opaque"),
        Member::file("opaque/hidden", b""),
        Member::link("etc/hard", "etc/kept"),
    ]);
    let upper = layer(&[
        Member::file("etc/.wh.gone", b""),
        Member::directory("opaque"),
        Member::file("opaque/.wh..wh..opq", b""),
        Member::file("opaque/new", b"new"),
    ]);
    image(&archive, &[lower, upper]);
    registry.push(&archive, "library/test:1", &[]);
    registry.push(&archive, "library/zstd:1", &["--dest-compress-format", "zstd", "--format", "oci"]);

    let data = work.path().join("data");
    let images = Images::open(&config(&data, Some(&registry.host))).expect("a new store");
    let pulled = images.pull("test:1", Auth::Anonymous, |_| {}).await.expect("pulling");
    assert_eq!(pulled.tags, ["docker.io/library/test:1"]);
    assert!(!pulled.local);
    assert_eq!(images.resolve(&pulled.digests[0]).expect("by digest").id, pulled.id);
    assert_eq!(images.resolve(&pulled.id[7..19]).expect("by a prefix of its id").id, pulled.id);

    let layers = images.layers(&pulled.id).expect("its layers");
    let (top, bottom) = (&layers[0], &layers[1]);
    let kept = fs::metadata(bottom.join("etc/kept")).expect("kept");
    assert_eq!(
        (kept.uid(), kept.gid(), kept.mode() & 0o7777, kept.mtime(), kept.nlink()),
        (12, 34, 0o640, 1_000_000, 2)
    );
    let whiteout = fs::symlink_metadata(top.join("etc/gone")).expect("a whiteout");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(xattr::get(top.join("opaque"), "trusted.overlay.opaque").expect("xattrs").as_deref(), Some(&b"y"[..]));

    let zstd = images.pull("zstd:1", Auth::Anonymous, |_| {}).await.expect("pulling zstd layers");
    assert_eq!(images.layers(&zstd.id).expect("its layers"), layers, "the same content is unpacked once");

    let name = format!("test:other@{}", pulled.digests[0].rsplit_once('@').expect("a digest").1);
    let by_digest = images.pull(&name, Auth::Anonymous, |_| {}).await.expect("pulling by digest");
    assert_eq!((by_digest.id, by_digest.tags), (pulled.id.clone(), pulled.tags.clone()), "its tag is not asked for");

    let unknown = images.pull("test:none", Auth::Anonymous, |_| {}).await.expect_err("no such tag");
    let words =
        format!("; mirror {}: manifest for test:none not found: manifest unknown: manifest unknown", registry.host);
    assert!(matches!(&unknown, Error::NotFound(said) if said.ends_with(&words)), "{unknown}");

    images.remove("test:1", Removal::default()).await.expect("removing an image");
    assert!(top.exists() && bottom.exists(), "the other image has the same layers");
    images.hold("c0ffee", &zstd.id);
    let last = images.remove("zstd:1", Removal::default()).await;
    assert!(matches!(last, Err(Error::Conflict(_))), "a container uses it");
    images.release("c0ffee");
    images.remove("zstd:1", Removal::default()).await.expect("removing the image");
    assert!(images.list().is_empty() && !top.exists() && !bottom.exists());
}

/// A port of 127.0.0.1 where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_help_is_named_with_the_reason() {
    install_crypto();
    let registry = Registry::start();
    let (down, own) = (nobody(), nobody());
    let unknown = format!("manifest for {own}/test:1 not found: manifest unknown: manifest unknown");
    let refused = "Connection refused (os error 111)";
    let cases = [
        (vec![], format!("pulling: registry {own}: {refused}")),
        (vec![&down], format!("pulling: registry {own}: {refused}; mirror {down}: {refused}")),
        (
            vec![&registry.host, &down],
            format!("registry {own}: {refused}; mirror {}: {unknown}; mirror {down}: {refused}", registry.host),
        ),
    ];
    for (mirrors, expected) in cases {
        let work = tempfile::tempdir().expect("a temporary directory");
        let mirrors = [(own.clone(), mirrors.into_iter().map(|host| format!("http://{host}")).collect())].into();
        let images = Images::open(&Config { mirrors, ..config(work.path(), None) }).expect("a new store");
        let error = images.pull(&format!("{own}/test:1"), Auth::Anonymous, |_| {}).await.expect_err("nobody has it");
        assert_eq!(error.to_string(), expected);
    }
}

/// Passes connections on to `target`, cutting each after so many bytes of answers until told otherwise.
fn cutting_proxy(target: String, most_bytes: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, most_bytes) = (target.clone(), most_bytes.clone());
            std::thread::spawn(move || {
                let server = TcpStream::connect(target).expect("the registry answers");
                let (mut up_from, mut up_to) =
                    (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
                std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
                let (mut from, mut to) = (server, client);
                let (mut buffer, mut sent) = ([0; 4096], 0);
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    sent += count as u64;
                    if sent > most_bytes.load(Ordering::SeqCst) || to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _closed = to.shutdown(std::net::Shutdown::Both);
                let _closed = from.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pull_goes_on_where_it_ended() {
    install_crypto();
    let registry = Registry::start();
    let work = tempfile::tempdir().expect("a temporary directory");
    let archive = work.path().join("image.tar");
    let noise = common::archive::noise(3 << 20);
    image(&archive, &[layer(&[Member::file("noise", &noise)])]);
    registry.push(&archive, "library/test:1", &[]);

    let limit = Arc::new(AtomicU64::new(1 << 20));
    let proxy = cutting_proxy(registry.host.clone(), limit.clone());
    let data = work.path().join("data");
    let cut = Images::open(&config(&data, None)).expect("a new store");
    let reference = format!("{proxy}/library/test:1");
    cut.pull(&reference, Auth::Anonymous, |_| {}).await.expect_err("the transfer is cut");
    drop(cut);

    limit.store(u64::MAX, Ordering::SeqCst);
    let images = Images::open(&config(&data, None)).expect("the store after a restart");
    let first = Arc::new(Mutex::new(None));
    let seen = first.clone();
    let report = move |step: PullProgress| {
        if let PullProgress::Layer { current, .. } = step {
            seen.lock().expect("no panic").get_or_insert(current);
        }
    };
    let pulled = images.pull(&reference, Auth::Anonymous, report).await.expect("the rest");
    let begun = first.lock().expect("no panic").expect("some progress");
    assert!(begun > 500_000, "the second try began at {begun}");
    let layers = images.layers(&pulled.id).expect("its layers");
    assert_eq!(fs::read(layers[0].join("noise")).expect("the file"), noise);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_loaded_as_local_images() {
    install_crypto();
    let work = tempfile::tempdir().expect("a temporary directory");
    let archive = work.path().join("image.tar");
    image(&archive, &[layer(&[Member::file("a", b"a")])]);
    let images = Images::open(&config(&work.path().join("data"), None)).expect("a new store");
    let names = |loaded: Vec<Loaded>| loaded.into_iter().flat_map(|image| image.tags).collect::<Vec<_>>();
    assert_eq!(names(images.load(&archive).await.expect("a docker archive")), ["docker.io/library/test:1"]);
    assert!(images.resolve("test:1").expect("loaded").local);

    let layout = work.path().join("layout.tar");
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", &format!("docker-archive:{}", archive.display())])
        .arg(format!("oci-archive:{}:other:2", layout.display()))
        .status()
        .expect("Debian's skopeo is installed");
    assert!(copied.success());
    assert_eq!(names(images.load(&layout).await.expect("an OCI archive")), ["docker.io/library/other:2"]);

    fs::write(&layout, b"no archive at all").expect("writing");
    images.load(&layout).await.expect_err("not an archive");
    assert_eq!(images.list().iter().map(|i| i.tags.len()).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_layers_are_refused_and_leave_nothing() {
    install_crypto();
    let work = tempfile::tempdir().expect("a temporary directory");
    let images = Images::open(&config(&work.path().join("data"), None)).expect("a new store");
    let outside = work.path().join("outside");
    for name in ["../../../outside", "a/../../../../outside"] {
        let archive = work.path().join("hostile.tar");
        image(&archive, &[layer(&[Member::file(name, b"pwned")])]);
        let error = images.load(&archive).await.expect_err(name).to_string();
        assert!(error.contains("'..'"), "{error}");
    }
    assert!(!outside.exists() && images.list().is_empty());
    assert_eq!(fs::read_dir(work.path().join("data/layers")).expect("the store").count(), 0);
}
