//! The images API as its users see it: the stock docker command and plain HTTP requests, with a real registry.

#[path = "../../engine/tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::archive::{Image, Member, layer};
use common::registry::Registry;
use serde_json::{Value, json};
use tug_docker_api::DockerApi;
use tug_docker_api::images::{self, Commission, CommitAsked};
use tug_engine::{Config, Engine};

/// A daemon that takes `registry` for Docker Hub's mirror.
struct Daemon {
    dir: tempfile::TempDir,
    engine: std::sync::Arc<Engine>,
    registry: Registry,
    _api: DockerApi,
}

impl Daemon {
    async fn start(registry: Registry) -> Self {
        common::install_crypto();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mirrors = [("docker.io".to_owned(), vec![format!("http://{}", registry.host)])].into();
        let config = Config { mirrors, ..common::config(dir.path(), "/tug-test-docker-api") };
        let engine = Engine::open(config).await.expect("an engine");
        let api = tug_docker_api::serve(engine.clone(), &dir.path().join("docker.sock")).await.expect("a socket");
        Daemon { dir, engine, registry, _api: api }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, program: &str, line: &str) -> Output {
        Command::new(program)
            .args(line.split_whitespace())
            .env("DOCKER_HOST", format!("unix://{}", self.path().join("docker.sock").display()))
            .env("DOCKER_CONFIG", self.path().join("client"))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .expect("Debian's docker.io and curl are there")
    }

    /// What the docker command says, in both streams, each digest and identifier as `ID`.
    fn docker(&self, line: &str) -> String {
        let output = self.run("docker", line);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let words = |line: &str| line.split(' ').map(without_id).collect::<Vec<_>>().join(" ");
        said.lines().map(str::trim_end).map(words).collect::<Vec<_>>().join("\n")
    }

    /// Runs a command that must succeed.
    fn must(&self, line: &str) -> String {
        let output = self.run("docker", line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Status and document of an answer.
    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        self.curl(&format!("-X {method} http://docker{path}"))
    }

    fn curl(&self, more: &str) -> (u16, Value) {
        let socket = self.path().join("docker.sock");
        let line = format!("-s -w \\n%{{http_code}} --unix-socket {} {more}", socket.display());
        let output = self.run("curl", &line);
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

fn without_id(word: &str) -> String {
    let is_hex = |text: &str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bare = word.trim_end_matches(':');
    match bare.rsplit_once("sha256:") {
        Some((before, id)) if is_hex(id) => format!("{before}ID"),
        None if is_hex(bare) => format!("ID{}", &word[bare.len()..]),
        _ => word.to_owned(),
    }
}

/// A registry that has `library/alpine` in two tags, and `library/other`.
fn hub(work: &Path) -> Registry {
    let registry = Registry::start();
    let archive = common::registry::small_archive(work);
    ["library/alpine:3.10", "library/alpine:latest"].iter().for_each(|name| registry.push(&archive, name, &[]));
    let other = work.join("other.tar");
    Image::new("other:1", vec![layer(&[Member::file("b", b"other")])]).write(&other);
    registry.push(&other, "library/other:1", &[]);
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_command_says_what_it_says_of_dockerd() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(hub(work.path())).await;
    let host = &daemon.registry.host;
    let cases = [
        (
            "pull alpine:3.10",
            "3.10: Pulling from library/alpine\nID: Pulling fs layer\nID: Verifying Checksum\nID: Download complete\n\
             ID: Pull complete\nDigest: ID\nStatus: Downloaded newer image for alpine:3.10\n\
             docker.io/library/alpine:3.10",
        ),
        (
            "pull alpine",
            "Using default tag: latest\nlatest: Pulling from library/alpine\nDigest: ID\n\
             Status: Downloaded newer image for alpine:latest\ndocker.io/library/alpine:latest",
        ),
        (
            "pull alpine:latest",
            "latest: Pulling from library/alpine\nDigest: ID\nStatus: Image is up to date for alpine:latest\n\
             docker.io/library/alpine:latest",
        ),
        ("pull -q other:1", "docker.io/library/other:1"),
        (
            "pull HOST/none:1",
            "Error response from daemon: manifest for HOST/none:1 not found: manifest unknown: manifest unknown",
        ),
        ("images --format {{.Repository}}:{{.Tag}} alpine", "alpine:3.10\nalpine:latest"),
        ("images --format {{.Repository}}:{{.Tag}} --filter reference=o*r", "other:1"),
        ("tag other:1 HOST/a/b:2", ""),
        (
            "push HOST/a/b:2",
            "The push refers to repository [HOST/a/b]\nID: Preparing\nID: Pushed\n2: digest: ID size: 422",
        ),
        (
            "push HOST/a/b:2",
            "The push refers to repository [HOST/a/b]\nID: Preparing\nID: Layer already exists\n2: digest: ID size: 422",
        ),
        (
            "push HOST/a/c:2",
            "The push refers to repository [HOST/a/c]\nAn image does not exist locally with the tag: HOST/a/c",
        ),
        ("save -o both.tar alpine other:1", ""),
        ("rmi alpine:3.10", "Untagged: alpine:3.10"),
        ("rmi alpine", "Untagged: alpine:latest\nUntagged: alpine@ID\nDeleted: ID\nDeleted: ID"),
        ("load -i both.tar", "Loaded image: alpine:3.10\nLoaded image: alpine:latest\nLoaded image: other:1"),
        ("load -q -i both.tar", "Loaded image: alpine:3.10\nLoaded image: alpine:latest\nLoaded image: other:1"),
        ("pull -q alpine", "docker.io/library/alpine:latest"),
        ("image prune -f", "Total reclaimed space: 0B"),
    ];
    for (line, expected) in cases {
        let said = daemon.docker(&line.replace("HOST", host)).replace(host, "HOST");
        assert_eq!(said, expected, "docker {line}");
    }
}

/// Statuses and words of moby's daemon (`daemon/server/router/image`, `daemon/images`, `daemon/internal/distribution`).
#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_in_dockerds_words() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(hub(work.path())).await;
    daemon.must("pull -q other:1");
    daemon.must("tag other:1 two:1");
    let cases = [
        ("GET", "/images/none/json", 404, "No such image: none:latest"),
        ("GET", "/images/none/history", 404, "No such image: none:latest"),
        (
            "GET",
            "/images/UPPER/json",
            400,
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        ("GET", "/images/get?names=none:1", 404, "reference does not exist"),
        ("GET", "/images/get?names=none", 404, "No such image: none"),
        ("GET", "/images/json?filters=%7B%22x%22:%5B%22y%22%5D%7D", 400, "invalid filter 'x'"),
        ("GET", "/images/json?filters=%7B%22dangling%22:%5B%22y%22%5D%7D", 400, "invalid filter 'dangling=[y]'"),
        ("GET", "/images/json?filters=%7B%22before%22:%5B%22none%22%5D%7D", 404, "No such image: none:latest"),
        ("GET", "/images/search?term=x&limit=101", 400, "limit 101 is outside the range of [1, 100]"),
        (
            "GET",
            "/v1.48/images/other:1/json?manifests=1&platform=%7B%7D",
            400,
            "conflicting options: manifests and platform options cannot both be set",
        ),
        (
            "GET",
            "/images/other:1/json?platform=S390X",
            404,
            "image with reference other:1 was found but its platform (HOST) does not match the specified platform \
             (linux/s390x)",
        ),
        ("GET", "/images/other:1/history?platform=S390X", 404, "does not match the specified platform (linux/s390x)"),
        ("GET", "/images/other:1/get?platform=S390X", 500, "no suitable export target found for platform linux/s390x"),
        ("POST", "/images/other:1/push?platform=S390X", 404, "does not match the specified platform (linux/s390x)"),
        ("DELETE", "/images/other:1?platforms=S390X", 404, "does not match the specified platform (linux/s390x)"),
        ("GET", "/images/other:1/json?platform=%7B%7D", 400, "both OS and Architecture must be provided"),
        (
            "GET",
            "/images/search?term=x&limit=q",
            400,
            "invalid limit specified: strconv.Atoi: parsing \"q\": invalid syntax",
        ),
        ("POST", "/images/none/tag?repo=a", 404, "No such image: none:latest"),
        (
            "POST",
            "/images/other:1/tag?repo=A",
            400,
            "invalid reference format: repository name (library/A) must be lowercase",
        ),
        ("POST", "/images/other:1/tag?repo=a&tag=b:c", 400, "invalid tag format"),
        (
            "POST",
            "/images/other:1/tag?repo=sha256",
            400,
            "refusing to create an ambiguous tag using digest algorithm as name",
        ),
        ("POST", "/images/create?fromImage=scratch", 403, "'scratch' is a reserved name"),
        ("POST", "/images/create?fromImage=other&tag=9", 404, "manifest for other:9 not found: manifest unknown"),
        ("POST", "/images/create?fromImage=other&tag=1&platform=x/y/z/w", 400, ""),
        ("POST", "/images/create?fromSrc=-&repo=a&changes=RUN%20x", 400, "RUN is not a valid change command"),
        (
            "POST",
            "/images/prune?filters=%7B%22until%22:%5B%221%22,%222%22%5D%7D",
            400,
            "more than one until filter specified",
        ),
        ("POST", "/build", 501, "building images is not supported by this daemon"),
        ("DELETE", "/images/none", 404, "No such image: none:latest"),
        (
            "DELETE",
            "/images/ID",
            409,
            "unable to delete ID (must be forced) - image is referenced in multiple repositories",
        ),
    ];
    let id = &daemon.must("images -q other:1");
    let other = "%7B%22os%22:%22linux%22,%22architecture%22:%22s390x%22%7D";
    for (method, path, status, words) in cases {
        let words = &words.replace("HOST", &tug_engine::Platform::host().to_string());
        let (found, answer) = daemon.ask(method, &path.replace("ID", id).replace("S390X", other));
        let said = answer["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{method} {path}: {said}");
        assert!(said.contains(&words.replace("ID", id)), "{method} {path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_file_system_is_an_image_with_changes() {
    let daemon = Daemon::start(Registry::start()).await;
    let files = layer(&[Member::directory("etc"), Member::file("etc/a", b"content")]);
    std::fs::write(daemon.path().join("files.tar"), files).expect("writing");
    let (status, _) = daemon.curl("--data-binary @files.tar http://docker/images/create?fromSrc=-&repo=made&tag=1&message=words&changes=USER%205&changes=ENV%20A=1&changes=EXPOSE%2080");
    assert_eq!(status, 200);
    let (_, shown) = daemon.ask("GET", "/v1.51/images/made:1/json");
    let own = ["User", "Env", "ExposedPorts", "Cmd"].map(|name| shown["Config"][name].clone());
    assert_eq!(own, [json!("5"), json!(["A=1"]), json!({ "80/tcp": {} }), Value::Null]);
    assert_eq!((&shown["Comment"], &shown["RepoTags"]), (&json!("words"), &json!(["made:1"])));
    let (_, history) = daemon.ask("GET", "/images/made:1/history");
    assert_eq!((history.as_array().map(Vec::len), &history[0]["Comment"]), (Some(1), &json!("words")));

    std::fs::write(daemon.path().join("nonsense.tar"), "x".repeat(2000)).expect("writing");
    for line in ["import nonsense.tar none:1", "load -i nonsense.tar"] {
        let said = daemon.docker(line);
        assert!(said.ends_with("archive/tar: invalid tar header"), "{line}: {said}");
    }
    assert_eq!(daemon.must("images -q none"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_s_changes_become_an_image() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(hub(work.path())).await;
    daemon.must("pull -q other:1");
    let parent = daemon.engine.images().find("other:1").expect("it was pulled").id;
    let changed = daemon.engine.images().scratch_file().expect("a file");
    std::fs::write(changed.path(), layer(&[Member::file("c", b"new"), Member::file(".wh.b", b"")])).expect("writing");
    let asked = CommitAsked {
        repo: "made".into(),
        author: "me".into(),
        comment: "words".into(),
        changes: vec!["CMD [\"c\"]".into(), "LABEL a=b".into()],
        ..CommitAsked::default()
    };
    let own = json!({ "Hostname": "h", "Cmd": ["sh", "-c", "work"], "User": "5" });
    let commission = Commission::new(asked, "0123", &own).expect("a good request");
    let (id, name) = commission.carry_out(&daemon.engine, &parent, changed).await.expect("an image");
    assert_eq!(name, "made:latest");
    let (_, shown) = daemon.ask("GET", "/v1.44/images/made/json");
    let fields = ["Id", "Parent", "Author", "Comment", "Container"].map(|name| shown[name].clone());
    assert_eq!(fields, [&id, &parent, "me", "words", "0123"].map(|text| json!(text)));
    assert_eq!(shown["ContainerConfig"]["Cmd"], own["Cmd"]);
    let config = ["Cmd", "User", "Labels"].map(|name| shown["Config"][name].clone());
    assert_eq!(config, [json!(["c"]), json!("5"), json!({ "a": "b" })]);
    let (_, history) = daemon.ask("GET", "/images/made/history");
    assert_eq!((&history[0]["CreatedBy"], &history[0]["Id"]), (&json!("sh -c work"), &json!(id)));
    assert_eq!(daemon.docker("rmi other:1"), "Untagged: other:1\nUntagged: other@ID");

    let wrong = CommitAsked { repo: "A".into(), ..CommitAsked::default() };
    let failure = Commission::new(wrong, "0123", &own).err().expect("no such name");
    assert_eq!(failure.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_in_their_order() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(hub(work.path())).await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let engine = daemon.engine.clone();
    let forwarding = images::forward_events(&engine, move |action: &str, id: &str, attributes| {
        sender.send(format!("{action} {} {}", without_id(id), without_id(&attributes["name"]))).expect("it is read");
    });
    let work = async {
        // The receiver is made when the future is first polled, which happens before this one's.
        for line in ["pull -q other:1", "tag other:1 two:2", "save -o a.tar two:2", "rmi two:2", "load -q -i a.tar"] {
            daemon.must(line);
        }
        daemon.must("rmi two:2 other:1");
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &String| !last.starts_with("delete")) {
            all.push(told.recv().await.expect("more events"));
        }
        all
    };
    let all = tokio::select! {
        biased;
        () = forwarding => panic!("it goes on"),
        all = work => all,
    };
    let expected = [
        "pull other:1 other",
        "tag ID two:2",
        "save ID ID",
        "untag ID ID",
        "load ID ID",
        "untag ID ID",
        "untag ID ID",
        "delete ID ID",
    ];
    assert_eq!(all, expected);
}

/// Of `tug:s3cret`, in htpasswd's form.
const HTPASSWD: &str = "tug:$2b$04$FmygIk0QaTLRrLZJ66Ys/uudE7ps6C7F6KbtShgiD5bnrVvgrlLWq\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_asked_whether_a_password_is_right() {
    let work = tempfile::tempdir().expect("a temporary directory");
    let passwords = work.path().join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).expect("writing");
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
    let daemon = Daemon::start(Registry::with(&auth)).await;
    let host = daemon.registry.host.clone();
    let archive = common::registry::small_archive(work.path());
    daemon.must(&format!("load -q -i {}", archive.display()));
    daemon.must(&format!("tag test:1 {host}/a:1"));

    let wrong = daemon.docker(&format!("login -u tug -p wrong {host}"));
    let refused = format!("login attempt to http://{host}/v2/ failed with status: 401 Unauthorized");
    assert!(wrong.ends_with(&refused), "{wrong}");
    assert!(daemon.docker(&format!("push {host}/a:1")).ends_with("unauthorized: authentication required"));
    assert!(daemon.must(&format!("login -u tug -p s3cret {host}")).contains("Login Succeeded"));
    daemon.must(&format!("push -q {host}/a:1"));

    let asked = format!("/distribution/{host}/a:1/json");
    assert_eq!(daemon.ask("GET", &asked).0, 404);
    let credentials = STANDARD.encode(json!({ "username": "tug", "password": "s3cret" }).to_string());
    let (status, found) = daemon.curl(&format!("-HX-Registry-Auth:{credentials} http://docker{asked}"));
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!((status, &found["Descriptor"]["mediaType"]), (200, &json!(kind)));
    let host_architecture = tug_engine::Platform::host().architecture;
    assert_eq!(found["Platforms"], json!([{ "os": "linux", "architecture": host_architecture }]));
    daemon.must(&format!("logout {host}"));
    let refused = daemon.docker(&format!("pull {host}/a:1"));
    assert!(refused.contains(&format!("pull access denied for {host}/a, repository does not exist")), "{refused}");
}

/// A server of documents by their paths; its address.
fn http_server(documents: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            answer(client, &documents);
        }
    });
    address
}

fn answer(mut client: TcpStream, documents: &[(&str, Vec<u8>)]) {
    let lines = BufReader::new(client.try_clone().expect("cloned")).lines();
    let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    // Somebody who only looked which way this speaks.
    let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let found = documents.iter().find(|(path, _)| target == *path);
    let (status, body) = found.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // Whoever asks may be gone.
    let _sent = client.write_all(&[head.as_bytes(), body].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_are_searched_and_imported_from() {
    let result = |name: &str, stars: u32, official: bool| json!({ "name": name, "description": "d", "star_count": stars, "is_official": official, "is_automated": false });
    let results = json!({ "results": [result("a/x", 1, false), result("x", 9, true), result("b/x", 5, false)] });
    let files = layer(&[Member::file("a", b"content")]);
    let documents =
        vec![("/v1/search?q=x&n=25", results.to_string().into_bytes()), ("/files.tar", files), ("/v2/", Vec::new())];
    let host = http_server(documents);
    let daemon = Daemon::start(Registry::start()).await;
    let names = |filters: &str| {
        let (status, found) = daemon.ask("GET", &format!("/images/search?term={host}/x{filters}"));
        let names = found.as_array().into_iter().flatten().map(|result| result["name"].clone());
        (status, names.collect::<Vec<_>>())
    };
    let cases = [
        ("", vec!["a/x", "x", "b/x"]),
        ("&filters=%7B%22stars%22:%5B%225%22%5D%7D", vec!["x", "b/x"]),
        ("&filters=%7B%22is-official%22:%5B%22true%22%5D%7D", vec!["x"]),
        ("&filters=%7B%22is-automated%22:%5B%22true%22%5D%7D", vec![]),
    ];
    for (filters, expected) in cases {
        assert_eq!(names(filters), (200, expected.into_iter().map(Value::from).collect()), "{filters}");
    }
    let said = daemon.docker(&format!("import http://{host}/files.tar got:1"));
    assert!(said.starts_with(&format!("Downloading from http://{host}/files.tar")) && said.ends_with("ID"), "{said}");
    assert_eq!(daemon.must("images -q got:1").len(), 12);
    let said = daemon.docker(&format!("import http://{host}/none got:2"));
    assert!(said.ends_with(&format!("failed to GET http://{host}/none with status 404 Not Found")), "{said}");
}
