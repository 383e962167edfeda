//! Images that leave the store (saved, pushed) and that are made in it (committed, imported), read by programs that aren't
//! ours: Debian's skopeo and docker-registry.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::archive::{Image, Member, layer};
use common::registry::{Registry, store};
use futures::StreamExt;
use serde_json::{Value, json};
use tug_engine::images::reference::Reference;
use tug_engine::{Auth, Commit, Error, Images, Platform, PullOptions, PullProgress, PushProgress, Removal, Removed};

/// `docker.io/…` without a registry behind it.
async fn load(images: &Images, directory: &Path, name: &str, layers: &[&[Member]]) -> String {
    let archive = directory.join("load.tar");
    Image::new(name, layers.iter().map(|members| layer(members)).collect()).write(&archive);
    images.load(&archive).await.expect("loading").remove(0).id
}

async fn save(images: &Images, names: &[&str], to: &Path) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut pieces = images.save(&names).await.expect("saving");
    let mut file = fs::File::create(to).expect("a file");
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece.expect("a piece")).expect("writing");
    }
}

fn skopeo(arguments: &[&str]) -> String {
    let done = Command::new("skopeo").args(arguments).output().expect("Debian's skopeo is installed");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

fn members(archive: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(archive).expect("the archive"));
    let names = archive
        .entries()
        .expect("an archive")
        .map(|member| member.expect("a member").path().expect("a path").display().to_string());
    names.collect()
}

fn parse(name: &str) -> Reference {
    Reference::parse(name).expect(name)
}

async fn tag(images: &Images, image: &str, name: &str) {
    images.tag(image, &parse(name)).await.expect(name);
}

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_a_docker_archive_and_an_oci_layout() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let images = store(&work.path().join("store"));
    let base: &[Member] = &[Member::file("base", b"base")];
    let one = load(&images, work.path(), "one:1", &[base, &[Member::file("one", b"1")]]).await;
    let two = load(&images, work.path(), "host:5000/two:2", &[base, &[Member::file("two", b"2")]]).await;
    let saved = work.path().join("saved.tar");
    save(&images, &["one", "host:5000/two:2"], &saved).await;

    let names = members(&saved);
    assert_eq!(names.iter().filter(|name| name.starts_with("blobs/sha256/")).count(), 1 + 2 + 3 + 2, "{names:?}");
    assert!(
        ["index.json", "manifest.json", "oci-layout", "repositories"]
            .iter()
            .all(|name| names.contains(&(*name).into()))
    );

    let inspect = |image: &str| serde_json::from_str::<Value>(&skopeo(&["inspect", "--config", image])).expect("JSON");
    let docker = inspect(&format!("docker-archive:{}:one:1", saved.display()));
    let oci = inspect(&format!("oci-archive:{}:1", saved.display()));
    assert_eq!(docker, oci);
    for (source, id) in [("docker-archive", &one), ("oci-archive", &one)] {
        let name = if source == "docker-archive" { "one:1" } else { "1" };
        let target = work.path().join(format!("{source}.tar"));
        let to = format!("docker-archive:{}:copy:1", target.display());
        skopeo(&["copy", "--quiet", &format!("{source}:{}:{name}", saved.display()), &to]);
        let other = store(&work.path().join(source));
        assert_eq!(other.load(&target).await.expect("a copy")[0].id, *id, "{source}");
    }
    let again = store(&work.path().join("again"));
    let loaded = again.load(&saved).await.expect("our own");
    let mut names: Vec<_> = loaded.iter().flat_map(|image| image.tags.clone()).collect();
    names.sort();
    assert_eq!(names, ["docker.io/library/one:1", "host:5000/two:2"]);
    assert!([&one, &two].iter().all(|id| again.resolve(id).is_some()));

    // By its id an image has no name.
    save(&images, &[&one], &saved).await;
    let nameless = store(&work.path().join("nameless")).load(&saved).await.expect("our own");
    assert_eq!((&nameless[0].id, nameless[0].tags.len()), (&one, 0));
    let missing = images.save(&["none:1".to_owned()]).await.err().expect("there is none");
    assert_eq!(missing.to_string(), "reference does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_sends_what_is_missing_and_says_so() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start();
    let images = store(&work.path().join("store"));
    let base: &[Member] = &[Member::file("base", &vec![7; 300_000])];
    let id = load(&images, work.path(), "app:1", &[base, &[Member::file("app", b"1")]]).await;
    let name = format!("{}/team/app:1", registry.host);
    tag(&images, &id, &name).await;
    tag(&images, &id, &format!("{}/other/app:1", registry.host)).await;
    let push = async |name: &str| {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = steps.clone();
        let report = move |step| seen.lock().expect("no panic").push(step);
        let pushed = images.push(parse(name), Auth::Anonymous, report).await;
        pushed.map(|()| std::mem::take(&mut *steps.lock().expect("no panic")))
    };
    let count =
        |steps: &[PushProgress], fits: fn(&PushProgress) -> bool| steps.iter().filter(|step| fits(step)).count();

    let first = push(&name).await.expect("pushing");
    assert!(matches!(&first[0], PushProgress::Begun { repository } if name.starts_with(repository.as_str())));
    assert_eq!(count(&first, |step| matches!(step, PushProgress::Preparing { .. })), 2);
    assert_eq!(count(&first, |step| matches!(step, PushProgress::Pushed { .. })), 2);
    let Some(PushProgress::Recorded { tag: told, digest, .. }) = first.last() else { panic!("{first:?}") };
    assert_eq!(told, "1");
    let remote = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(serde_json::from_str::<Value>(&remote).expect("JSON")["Digest"], *digest);
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let manifest: Value = serde_json::from_str(&raw).expect("JSON");
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["digest"], id);
    assert!(manifest["layers"][0]["size"].as_u64().is_some_and(|bytes| bytes < 10_000), "packed: {manifest}");
    assert!(images.resolve(&format!("{}/team/app@{digest}", registry.host)).is_some());

    let second = push(&name).await.expect("pushing again");
    assert_eq!(count(&second, |step| matches!(step, PushProgress::Exists { .. })), 2);
    let elsewhere = push(&format!("{}/other/app:1", registry.host)).await.expect("pushing elsewhere");
    assert_eq!(count(&elsewhere, |step| matches!(step, PushProgress::Mounted { from, .. } if from == "team/app")), 2);

    let other = store(&work.path().join("other"));
    let pulled = other.pull(&name, Auth::Anonymous, |_| {}).await.expect("pulling it back");
    assert_eq!(pulled.id, id);
    assert_eq!(pulled.unpacked_bytes(), 300_001);
    let refusals = [
        ("none:1".to_owned(), "pushing: An image does not exist locally with the tag: none".to_owned()),
        (format!("{}/team/app:2", registry.host), format!("pushing: tag does not exist: {}/team/app:2", registry.host)),
    ];
    for (name, words) in refusals {
        assert_eq!(push(&name).await.expect_err("nothing to push").to_string(), words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_choose_platforms_and_take_all_tags() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start();
    let images = store(&work.path().join("store"));
    let id = load(&images, work.path(), "app:1", &[&[Member::file("app", b"1")]]).await;
    for version in ["1", "2"] {
        tag(&images, &id, &format!("{}/app:{version}", registry.host)).await;
    }
    let repository = Reference::parse_as_written(&format!("{}/app", registry.host)).expect("a repository");
    images.push(repository.clone(), Auth::Anonymous, |_| {}).await.expect("all tags");

    let other = store(&work.path().join("other"));
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let report = move |step| seen.lock().expect("no panic").push(step);
    other.pull_as(repository.clone(), PullOptions::default(), report).await.expect("all tags");
    let pulled = other.resolve(&id).expect("pulled");
    assert_eq!(pulled.tags, ["1", "2"].map(|version| format!("{}/app:{version}", registry.host)));
    let newer = |step: &PullProgress| match step {
        PullProgress::Recorded { newer, .. } => Some(*newer),
        _ => None,
    };
    let steps: Vec<_> = std::mem::take(&mut *steps.lock().expect("no panic"));
    assert_eq!(steps.iter().filter_map(newer).collect::<Vec<_>>(), [true, true]);
    assert!(
        matches!(&steps[0], PullProgress::Begun { repository, tag } if repository == "app" && ["1", "2"].contains(&tag.as_str()))
    );
    assert!(matches!(steps[1], PullProgress::Waiting { .. }));
    assert!(!steps.iter().any(|step| matches!(step, PullProgress::Exists { .. })), "the second tag is the same image");

    // An index of two platforms, of which only the other one is not this host's.
    let foreign = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let platform = Platform::parse(foreign).expect("a platform");
    let commit = Commit { platform: Some(platform.clone()), ..Commit::default() };
    let archive = images.scratch_file().expect("a file");
    fs::write(archive.path(), layer(&[Member::file("foreign", b"f")])).expect("writing");
    let theirs =
        images.import(archive, commit, Some(&parse(&format!("{}/foreign:1", registry.host)))).await.expect("made");
    images.push(parse(&format!("{}/foreign:1", registry.host)), Auth::Anonymous, |_| {}).await.expect("pushed");
    let raw =
        |name: &str| skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}/{name}", registry.host)]);
    let entry = |name: &str, platform: &Platform| {
        let raw = raw(name);
        json!({
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "digest": format!("sha256:{}", sha256(raw.as_bytes())),
            "size": raw.len(),
            "platform": { "os": platform.os, "architecture": platform.architecture },
        })
    };
    // Blobs of an index must be in its own repository.
    skopeo(&[
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{}/foreign:1", registry.host),
        &format!("docker://{}/app:foreign", registry.host),
    ]);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [entry("app:1", &Platform::host()), entry("app:foreign", &platform)],
    });
    let put = reqwest::Client::new()
        .put(format!("http://{}/v2/app/manifests/both", registry.host))
        .header("content-type", "application/vnd.docker.distribution.manifest.list.v2+json")
        .body(index.to_string());
    assert_eq!(put.send().await.expect("an answer").status(), 201);
    let both = parse(&format!("{}/app:both", registry.host));
    let pull = async |platform: Option<Platform>| {
        let options = PullOptions { platform, ..PullOptions::default() };
        let other = store(&work.path().join("platforms"));
        other.pull_as(both.clone(), options, |_| {}).await.map(|images| images[0].id.clone())
    };
    assert_eq!(pull(None).await.expect("this host's"), id);
    assert_eq!(pull(Some(platform)).await.expect("the other"), theirs);
    let absent = pull(Some(Platform::parse("linux/s390x").expect("a platform"))).await.expect_err("no such platform");
    assert!(
        absent.to_string().ends_with("no matching manifest for linux/s390x in the manifest list entries"),
        "{absent}"
    );
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scratch(images: &Images, members: &[Member]) -> tempfile::NamedTempFile {
    let file = images.scratch_file().expect("a file");
    fs::write(file.path(), layer(members)).expect("writing");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_a_child_of_its_image() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let images = store(&work.path().join("store"));
    let parent = load(&images, work.path(), "base:1", &[&[Member::file("base", b"base")]]).await;
    let config = json!({ "Cmd": ["app"], "Labels": { "a": "b" }, "Healthcheck": { "Test": ["NONE"] } });
    let commit = Commit {
        config: config.clone(),
        author: "someone".into(),
        comment: "why".into(),
        created_by: "touch /app".into(),
        container: Some(("c0ffee".into(), json!({ "Image": "base:1" }))),
        platform: None,
    };
    let child = images
        .commit(Some(&parent), scratch(&images, &[Member::file("app", b"app")]), commit.clone())
        .await
        .expect("made");
    let image = images.resolve(&child).expect("the child");
    assert_eq!((image.parent.as_ref(), image.layers.len(), image.local), (Some(&parent), 2, true));
    assert_eq!(image.unpacked_bytes(), 7);
    let document = images.document(&child).expect("its configuration");
    assert_eq!(document["config"], config);
    assert_eq!((&document["author"], &document["container"]), (&json!("someone"), &json!("c0ffee")));
    let history = document["history"].as_array().expect("a history");
    let last = history.last().expect("one entry");
    assert_eq!(
        (&last["created_by"], &last["comment"], &last["empty_layer"]),
        (&json!("touch /app"), &json!("why"), &Value::Null)
    );
    let layers = images.layers(&child).expect("its layers");
    assert_eq!(fs::read(layers[0].join("app")).expect("the file"), b"app");

    // Nothing was changed: no layer, but an image nevertheless.
    let same = images.commit(Some(&child), scratch(&images, &[]), commit).await.expect("made");
    let image = images.resolve(&same).expect("the grandchild");
    assert_eq!(image.layers.len(), 2);
    let document = images.document(&same).expect("its configuration");
    assert_eq!(document["history"].as_array().expect("a history").last().expect("an entry")["empty_layer"], true);

    let conflict = images.remove(&child, Removal { force: true, ..Removal::default() }).await.expect_err("a child");
    let words =
        format!("conflict: unable to delete {} (cannot be forced) - image has dependent child images", &child[7..19]);
    assert_eq!(conflict.to_string(), words);
    let removed = images.remove(&same, Removal::default()).await.expect("removed");
    // The parent with a name stays.
    let gone: Vec<_> = removed.iter().filter(|removed| matches!(removed, Removed::Image(_))).cloned().collect();
    assert_eq!(gone, [Removed::Image(same), Removed::Image(child)]);
    assert_eq!(
        removed.iter().filter(|removed| matches!(removed, Removed::Layer { bytes: 3, .. })).count(),
        1,
        "{removed:?}"
    );
    assert!(images.resolve("base:1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_images_go_by_dockers_rules() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let images = store(&work.path().join("store"));
    let id = load(&images, work.path(), "app:1", &[&[Member::file("app", b"1")]]).await;
    let short = &id[7..19];
    let remove = async |name: &str, force: bool, running: &[&str]| {
        let running = running.iter().map(|id| (*id).to_owned()).collect();
        images.remove(name, Removal { force, running, ..Removal::default() }).await
    };
    tag(&images, &id, "b:2").await;
    tag(&images, &id, "host:5/c").await;
    let several = remove(short, false, &[]).await.expect_err("several names");
    let words =
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories");
    assert_eq!(several.to_string(), words);
    assert_eq!(remove("b:2", false, &[]).await.expect("a name"), [untagged("docker.io/library/b:2")]);
    assert_eq!(remove("host:5/c", false, &[]).await.expect("a name"), [untagged("host:5/c:latest")]);

    let container = "c0ffee".repeat(11);
    images.hold(&container, &id);
    let used = remove("app:1", false, &[]).await.expect_err("a container");
    let words = format!(
        "conflict: unable to remove repository reference \"app:1\" (must force) - container {} is using its referenced image {short}",
        &container[..12]
    );
    assert_eq!(used.to_string(), words);
    let cases: [(bool, &[&str], &str, &str); 2] =
        [(false, &[], "must", "stopped"), (true, &[&container], "cannot", "running")];
    for (force, running, can, state) in cases {
        let words = format!(
            "conflict: unable to delete {short} ({can} be forced) - image is being used by {state} container {}",
            &container[..12]
        );
        assert_eq!(remove(short, force, running).await.expect_err(state).to_string(), words);
    }
    // By force only the image's name and record go, until the container does.
    let events = &mut images.events();
    let forced = remove(short, true, &[]).await.expect("by force");
    assert_eq!(forced, [untagged("docker.io/library/app:1"), Removed::Image(id.clone())]);
    assert_eq!(["untag", "delete"].map(|_| events.try_recv().expect("an event").action), ["untag", "delete"]);
    assert!(images.list().is_empty() && matches!(images.find("app:1"), Err(Error::NotFound(_))));
    let layers = images.layers(&id).expect("the container's");
    assert!(layers[0].join("app").exists());
    images.release(&container);
    let gone = async {
        while layers[0].exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(common::PATIENCE, gone).await.expect("it goes with the container");

    let unknown = [
        ("none", "No such image: none:latest"),
        ("docker.io/library/none:1", "No such image: none:1"),
        ("Not An Image", "invalid reference format: repository name (library/Not An Image) must be lowercase"),
    ];
    for (name, words) in unknown {
        assert_eq!(remove(name, false, &[]).await.expect_err(name).to_string(), words);
    }
}

/// A small file system of its own, gone with this value.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&path).expect("a directory");
        let options = format!("size={bytes}");
        nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(options.as_str()))
            .expect("a mount");
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).expect("unmounting");
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    common::entries(directory)
        .into_iter()
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_leaves_nothing_broken() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start();
    let disk = Disk::new(work.path().join("disk"), 4 << 20);
    let images = store(&disk.0);
    let small = load(&images, work.path(), "small:1", &[&[Member::file("small", &vec![1; 100_000])]]).await;
    let before = files_below(&disk.0.join("data"));

    let large = work.path().join("large.tar");
    Image::new("large:1", vec![layer(&[Member::file("large", &common::archive::noise(3 << 20))])]).write(&large);
    registry.push(&large, "large:1", &[]);
    let name = format!("{}/large:1", registry.host);
    let load = images.load(&large).await.map(drop).expect_err("no room");
    let pull = images.pull(&name, Auth::Anonymous, |_| {}).await.map(drop).expect_err("no room");
    for error in [load, pull] {
        assert!(error.to_string().contains("no space left on device"), "{error}");
    }
    assert_eq!(files_below(&disk.0.join("data")), before);
    // Even when not a byte is left an image can be removed, and then there is room.
    let fill = fs::write(disk.0.join("filler"), vec![1; 4 << 20]).expect_err("full");
    assert_eq!(fill.kind(), std::io::ErrorKind::StorageFull);
    images.remove(&small, Removal::default()).await.expect("removed");
    fs::remove_file(disk.0.join("filler")).expect("removed");
    nix::mount::mount(None::<&str>, &disk.0, None::<&str>, nix::mount::MsFlags::MS_REMOUNT, Some("size=16m"))
        .expect("enlarged");
    images.pull(&name, Auth::Anonymous, |_| {}).await.expect("there is room");
}
