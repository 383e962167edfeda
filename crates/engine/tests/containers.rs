//! Containers run by a real shim in real namespaces: what they see, what they may, and what they are held to.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::archive::{Image, Member, layer};
use common::{Node, sandbox};
use serde_json::json;
use tug_engine::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_to_its_end() {
    let node = Node::with_busybox().await;
    let (code, output) = node.run(node.spec("one", &["sh", "-c", "echo hello; echo oops >&2; exit 7"])).await;
    assert_eq!(code, 7);
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["hello", "oops"]);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_and_the_request_say_what_runs() {
    let node = Node::with_busybox().await;
    let config = json!({
        "Entrypoint": ["sh", "-c"], "Cmd": ["echo $A $B; pwd"], "Env": ["PATH=/bin", "A=image", "B=image"],
        "WorkingDir": "/made/for/it", "User": "web",
    });
    let busybox = Image::busybox();
    node.load(&Image { name: "full:1".into(), config, layers: busybox.layers }).await;
    let plain = || ContainerSpec { image: node.image("full:1"), args: None, ..node.spec("one", &[]) };
    let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let stat = owned(&["stat -c %u:%g ."]);
    let cases = [
        ("both from the image", plain(), "image image\n/made/for/it\n"),
        ("arguments", ContainerSpec { args: owned(&["echo $HOME"]), ..plain() }, "/var/www\n"),
        ("entry point", ContainerSpec { entrypoint: owned(&["echo", "me"]), ..plain() }, "me\n"),
        ("both", ContainerSpec { entrypoint: owned(&["echo"]), args: owned(&["x", "y"]), ..plain() }, "x y\n"),
        ("environment", ContainerSpec { env: vec!["B=mine".into()], ..plain() }, "image mine\n/made/for/it\n"),
        ("directory", ContainerSpec { working_dir: Some("/tmp".into()), ..plain() }, "image image\n/tmp\n"),
        ("a new directory is the user's", ContainerSpec { args: stat, ..plain() }, "33:34\n"),
    ];
    for (number, (case, spec, expected)) in cases.into_iter().enumerate() {
        let id = format!("case-{number}");
        let (code, output) = node.run(node.named(&id, spec)).await;
        assert_eq!((code, output.as_str()), (0, expected), "{case}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_those_of_the_containers_own_files() {
    let node = Node::with_busybox().await;
    let cases: [(&str, &[u32], &str); 7] = [
        ("", &[], "uid=0(root) gid=0(root) groups=0(root)"),
        ("web", &[], "uid=33(web) gid=34 groups=7(friends),34,50(staff)"),
        ("33", &[], "uid=33(web) gid=34 groups=7(friends),34,50(staff)"),
        ("web:friends", &[], "uid=33(web) gid=7(friends) groups=7(friends)"),
        ("1000:50", &[], "uid=1000 gid=50(staff) groups=50(staff)"),
        ("1000", &[2000, 3000], "uid=1000 gid=0(root) groups=0(root),2000,3000"),
        ("web", &[2000], "uid=33(web) gid=34 groups=7(friends),34,50(staff),2000"),
    ];
    for (number, (user, groups, expected)) in cases.into_iter().enumerate() {
        let spec = node.spec(&format!("case-{number}"), &["id"]);
        let spec = ContainerSpec { user: Some(user.into()), supplemental_groups: groups.to_vec(), ..spec };
        assert_eq!(node.run(spec).await, (0, format!("{expected}\n")), "{user:?}");
    }
    let spec = ContainerSpec { user: Some("nobody".into()), ..node.spec("none", &["id"]) };
    let words = "unable to find user nobody: no matching entries in passwd file";
    assert_eq!(node.start(spec).await.expect_err("no such user").to_string(), words);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_its_own_or_the_nodes() {
    let node = Node::with_busybox().await;
    let line = "echo $$; hostname; ip -o link | wc -l; for n in net ipc uts pid mnt cgroup; do
        stat -L -c %i /proc/self/ns/$n; done";
    let output = node.shell("own", line).await;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["1", "own", "1"], "first process, host name, loopback alone");
    let inode = |name: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        link.to_string_lossy().trim_end_matches(']').rsplit('[').next().map(str::to_owned).expect("its number")
    };
    for (name, inside) in ["net", "ipc", "uts", "pid", "mnt", "cgroup"].into_iter().zip(&lines[3..]) {
        assert_ne!(*inside, inode(name), "{name}");
    }

    let host = SandboxSpec { host_network: true, host_pid: true, host_ipc: true, ..sandbox("host") };
    node.engine.create_sandbox(SandboxSpec { hostname: String::new(), ..host }).await.expect("a sandbox");
    let output = node.shell("host", "for n in net ipc uts pid; do stat -L -c %i /proc/self/ns/$n; done").await;
    for (name, inside) in ["net", "ipc", "uts", "pid"].into_iter().zip(output.lines()) {
        assert_eq!(inside, inode(name), "{name}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_sandbox_share_what_pods_share() {
    let node = Node::with_busybox().await;
    let shared = SandboxSpec { share_pid: true, shm_bytes: 1 << 20, ..sandbox("pod") };
    node.engine.create_sandbox(shared).await.expect("a sandbox");
    let serve = "echo shared > /dev/shm/note; (sleep 0.1 & exec true) & echo ready | nc -l -p 80; exec sleep 1000";
    let first = ContainerSpec { sandbox: "pod".into(), ..node.spec("first", &["sh", "-c", serve]) };
    node.start(first).await.expect("it starts");
    let look = "until nc 127.0.0.1 80; do usleep 10000; done; cat /dev/shm/note; df /dev/shm | awk 'NR==2{print $2}';
        ps -o comm,args | grep -v grep | grep -c 'sleep 1000'; hostname";
    let second = ContainerSpec { sandbox: "pod".into(), ..node.spec("second", &["sh", "-c", look]) };
    assert_eq!(node.run(second).await, (0, "ready\nshared\n1024\n1\npod\n".into()));
    // What its parent left behind is reaped by the namespace's init: no zombie stays.
    let zombies = "while ps -o stat | grep -q Z; do usleep 10000; done; ps -o pid,comm | grep '^ *1 '";
    let third = ContainerSpec { sandbox: "pod".into(), ..node.spec("third", &["sh", "-c", zombies]) };
    let (code, output) = node.run(third).await;
    assert_eq!((code, output.split_whitespace().collect::<Vec<_>>()), (0, vec!["1", "tug-pod"]));
    node.finish().await;
}

/// The OCI library takes a process's number in the shared namespace for one of the node's.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_no_process_of_the_node_has_is_as_good() {
    let node = Node::with_busybox().await;
    node.engine.create_sandbox(SandboxSpec { share_pid: true, ..sandbox("pod") }).await.expect("a sandbox");
    let free = (300..).find(|pid| !Path::new(&format!("/proc/{pid}")).exists()).expect("a free number");
    let line = format!("echo {} > /proc/sys/kernel/ns_last_pid; echo done; exec sleep 1000", free - 1);
    let first = ContainerSpec { sandbox: "pod".into(), privileged: true, ..node.spec("first", &["sh", "-c", &line]) };
    node.start(first).await.expect("it starts");
    node.said("first", "done").await;
    let second = ContainerSpec { sandbox: "pod".into(), ..node.spec("second", &["sh", "-c", "echo $$"]) };
    assert_eq!(node.run(second).await, (0, format!("{free}\n")));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sees_its_own_control_groups_and_changes_none() {
    let node = Node::with_busybox().await;
    let v2 = tug_shim::cgroup::layout() == tug_shim::cgroup::Layout::V2;
    let pids = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let limits = Limits { pids: 77, ..Limits::default() };
    let cases = [
        ("its limits", false, format!("cat {pids}/pids.max; grep -cx 1 {pids}/cgroup.procs"), "77\n1\n"),
        ("which hold", false, format!("(echo max > {pids}/pids.max) 2>/dev/null || cat {pids}/pids.max"), "77\n"),
        ("nor groups of its own", false, format!("mkdir {pids}/own 2>/dev/null || echo none"), "none\n"),
        ("but a privileged one may", true, format!("mkdir {pids}/own && rmdir {pids}/own && echo made"), "made\n"),
    ];
    for (number, (case, privileged, line, expected)) in cases.into_iter().enumerate() {
        let spec = node.spec(&format!("case-{number}"), &["sh", "-c", &line]);
        let outcome = node.run(ContainerSpec { privileged, limits: limits.clone(), ..spec }).await;
        assert_eq!(outcome, (0, expected.into()), "{case}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_containers_pid_namespace_can_be_joined() {
    let node = Node::with_busybox().await;
    node.start(node.spec("one", &["sleep", "1000"])).await.expect("it starts");
    let joins = |id: &str, other: &str| ContainerSpec {
        sandbox: "one".into(),
        pid_of: Some(other.into()),
        ..node.spec(id, &["sh", "-c", "ps -o pid,args | grep '1 sleep 1000' | grep -vc grep"])
    };
    assert_eq!(node.run(joins("two", "one")).await, (0, "1\n".into()));
    let error = node.start(joins("three", "two")).await.expect_err("it has ended");
    assert_eq!(error.to_string(), "cannot join PID of a non running container: two");
    node.finish().await;
}

/// Docker's default set, as the kernel prints it (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP).
const DOCKER_CAPABILITIES: &str = "00000000a80425fb";

#[tokio::test(flavor = "multi_thread")]
async fn privileges_are_dockers_defaults_and_what_is_asked() {
    let node = Node::with_busybox().await;
    let own = fs::read_to_string("/proc/self/status").expect("procfs");
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("a bounding set");
    let line = "awk '/CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp:/{print $2}' /proc/self/status | tr '\\n' ' '";
    let plain = || node.spec("one", &["sh", "-c", line]);
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // Inheritable, effective, bounding, ambient; no new privileges; a filter.
    let sets = |effective: &str, bounding: &str, rest: &str| {
        format!("0000000000000000 {effective} {bounding} 0000000000000000 {rest} ")
    };
    let none = "0000000000000000";
    let docker = DOCKER_CAPABILITIES;
    let added = format!("{:016x}", u64::from_str_radix(docker, 16).expect("hexadecimal") | 1 << 12);
    let cases = [
        ("default", plain(), sets(docker, docker, "0 2")),
        ("no new privileges", ContainerSpec { no_new_privileges: true, ..plain() }, sets(docker, docker, "1 2")),
        ("unprivileged user", ContainerSpec { user: Some("33".into()), ..plain() }, sets(none, docker, "0 2")),
        ("added", ContainerSpec { cap_add: list(&["NET_ADMIN"]), ..plain() }, sets(&added, &added, "0 2")),
        ("dropped", ContainerSpec { cap_drop: list(&["ALL"]), ..plain() }, sets(none, none, "0 2")),
        ("unconfined", ContainerSpec { seccomp: Seccomp::Unconfined, ..plain() }, sets(docker, docker, "0 0")),
        ("privileged", ContainerSpec { privileged: true, ..plain() }, sets(bounding, bounding, "0 0")),
    ];
    for (number, (case, spec, expected)) in cases.into_iter().enumerate() {
        let id = format!("case-{number}");
        let (code, output) = node.run(node.named(&id, spec)).await;
        assert_eq!((code, output), (0, expected), "{case}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn system_calls_are_filtered() {
    let node = Node::with_busybox().await;
    let profile = node.path().join("profile.json");
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }]);
    fs::write(&profile, json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }).to_string()).expect("writing");
    let admin = || ContainerSpec { cap_add: vec!["SYS_ADMIN".into()], ..node.spec("one", &[]) };
    let plain = || node.spec("one", &[]);
    let unshare = "unshare -U true";
    let mount = "mount -t tmpfs x /tmp";
    let cases = [
        ("user namespaces need CAP_SYS_ADMIN", plain(), unshare, false),
        ("with it they may be made", admin(), unshare, true),
        ("unfiltered too", ContainerSpec { seccomp: Seccomp::Unconfined, ..plain() }, unshare, true),
        ("mounts need it", plain(), mount, false),
        ("with it they are made", admin(), mount, true),
        ("a profile of one's own", ContainerSpec { seccomp: Seccomp::File(profile), ..plain() }, "! mkdir /new", true),
        ("that allows the rest", plain(), "mkdir /new", true),
    ];
    for (number, (case, spec, line, works)) in cases.into_iter().enumerate() {
        let id = format!("case-{number}");
        let args = Some(["sh", "-c", line].map(str::to_owned).to_vec());
        let (code, output) = node.run(ContainerSpec { args, ..node.named(&id, spec) }).await;
        assert_eq!(code == 0, works, "{case}: {output}");
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_the_kernels_files_and_devices_are_guarded() {
    let node = Node::with_busybox().await;
    let refused = |line: &str| format!("! ({line}) 2>/dev/null");
    let cases = [
        ("the root is writable", "echo x > /x && cat /x".to_owned(), "x\n"),
        ("kernel settings are not", refused("echo 1 > /proc/sys/kernel/printk"), ""),
        ("nor /sys", refused("echo 1 > /sys/kernel/mm/ksm/run"), ""),
        ("some files are empty", "cat /proc/keys /proc/timer_list | wc -c".to_owned(), "0\n"),
        (
            "the usual devices",
            "ls /dev | grep -v core | tr '\\n' ' '".to_owned(),
            "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
        ),
        ("and they work", "head -c 3 /dev/zero | wc -c; echo x > /dev/null; test -c /dev/full".to_owned(), "3\n"),
        ("nodes can be made", "mknod /n c 1 3 && echo x > /n; mknod /b b 254 0".to_owned(), ""),
        ("but not opened", refused("mknod /b b 254 0; head -c 1 /b"), ""),
        ("nor those of memory", refused("mknod /m c 1 1; head -c 1 /m"), ""),
    ];
    for (number, (case, line, expected)) in cases.into_iter().enumerate() {
        let output = node.shell(&format!("case-{number}"), &line).await;
        assert_eq!(output, expected, "{case}");
    }
    let line = refused("echo x > /x") + " && echo x > /dev/null && echo x > /tmp/x";
    let spec = node.spec("read-only", &["sh", "-c", &line]);
    let tmp = Mount { kind: "tmpfs".into(), source: "tmpfs".into(), target: "/tmp".into(), options: vec![] };
    let (code, output) = node.run(ContainerSpec { readonly_rootfs: true, mounts: vec![tmp], ..spec }).await;
    assert_eq!((code, output.as_str()), (0, ""));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_given_with_their_permissions() {
    let node = Node::with_busybox().await;
    let kmsg = |permissions: &str| Device {
        host: "/dev/kmsg".into(),
        container: "/dev/log-of-kernel".into(),
        permissions: permissions.into(),
    };
    let read = "timeout 5 head -c 1 /dev/log-of-kernel | wc -c";
    let write = "echo tug > /dev/log-of-kernel";
    for (number, (permissions, line, works)) in
        [("r", read, true), ("r", write, false), ("rwm", write, true), ("", write, true)].into_iter().enumerate()
    {
        let spec = node.spec(&format!("case-{number}"), &["sh", "-c", line]);
        let (code, output) = node.run(ContainerSpec { devices: vec![kmsg(permissions)], ..spec }).await;
        assert_eq!(code == 0, works, "{permissions:?} {line}: {output}");
    }
    let spec = node.spec("missing", &["true"]);
    let missing = Device { host: "/dev/none".into(), container: "/dev/none".into(), permissions: String::new() };
    let error = node.start(ContainerSpec { devices: vec![missing], ..spec }).await.expect_err("no such device");
    assert!(error.to_string().starts_with("error gathering device information while adding custom device"), "{error}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_appear_as_asked() {
    let node = Node::with_busybox().await;
    let source = tempfile::tempdir().expect("a temporary directory");
    let source = source.path();
    fs::create_dir_all(source.join("sub")).expect("a directory");
    fs::write(source.join("sub/file"), "content\n").expect("a file");
    let bind = |target: &str, options: &[&str]| Mount {
        kind: "bind".into(),
        source: source.into(),
        target: target.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    let mounts = vec![
        // Given before its parent.
        Mount {
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            target: "/a/b/inner".into(),
            options: vec!["size=64k".into()],
        },
        bind("/a/b", &["rbind", "rw"]),
        bind("/ro", &["rbind", "ro"]),
        Mount { source: source.join("sub/file"), ..bind("/one/file", &[]) },
    ];
    fs::create_dir(source.join("inner")).expect("a directory");
    let line = "cat /a/b/sub/file /ro/sub/file /one/file; echo new > /a/b/new; ! touch /ro/x 2>/dev/null;
        df /a/b/inner | awk 'NR==2{print $2}'";
    let spec = ContainerSpec { mounts, ..node.spec("one", &["sh", "-c", line]) };
    assert_eq!(node.run(spec).await, (0, "content\ncontent\ncontent\n64\n".into()));
    assert_eq!(fs::read_to_string(source.join("new")).expect("written"), "new\n");
    node.finish().await;
    assert!(source.join("sub/file").exists(), "removing a container leaves what was bound into it");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_propagate_as_asked() {
    let node = Node::with_busybox().await;
    let source = node.path().join("source");
    fs::create_dir_all(source.join("below")).expect("a directory");
    let none = None::<&str>;
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&source), &source, none, flags, none).expect("a mount of its own");
    nix::mount::mount(none, &source, none, nix::mount::MsFlags::MS_SHARED, none).expect("a shared one");
    let start = async |id: &str, option: &str, privileged: bool| {
        let options = vec!["rbind".into(), option.into()];
        let mount = Mount { kind: "bind".into(), source: source.clone(), target: "/seen".into(), options };
        let spec = node.spec(id, &["sleep", "1000"]);
        node.start(ContainerSpec { mounts: vec![mount], privileged, ..spec }).await.expect("it starts");
    };
    start("private", "rprivate", false).await;
    start("slave", "rslave", false).await;
    start("shared", "rshared", true).await;
    let below = source.join("below");
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("a mount");
    fs::write(below.join("file"), "").expect("a file");
    for (id, seen) in [("private", false), ("slave", true), ("shared", true)] {
        let (code, _) = node.exec(id, &["test", "-e", "/seen/below/file"]).await.expect("exec");
        assert_eq!(code == 0, seen, "{id}");
    }
    nix::mount::umount(&below).expect("unmounted, in the containers too");
    let (code, _) = node
        .exec("shared", &["sh", "-c", "mount -t tmpfs x /seen/below && touch /seen/below/back"])
        .await
        .expect("exec");
    assert_eq!((code, below.join("back").exists()), (0, true), "a mount comes back from the container");
    nix::mount::umount(&below).expect("unmounted");
    nix::mount::umount(&source).expect("unmounted");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_reach_the_process() {
    let node = Node::with_busybox().await;
    let rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft: 123, hard: 456 }];
    let spec = node.spec("rlimits", &["sh", "-c", "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj"]);
    let spec = ContainerSpec { rlimits, oom_score_adj: Some(321), ..spec };
    assert_eq!(node.run(spec).await, (0, "123\n456\n0022\n321\n".into()));
    // Lowering it takes a privilege that this machine may lack: the container runs all the same.
    let spec = node.spec("guaranteed", &["cat", "/proc/self/oom_score_adj"]);
    let (code, _) = node.run(ContainerSpec { oom_score_adj: Some(-997), ..spec }).await;
    assert_eq!(code, 0);

    let sysctls = BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "99".to_owned())]);
    node.engine.create_sandbox(SandboxSpec { sysctls, ..sandbox("sysctls") }).await.expect("a sandbox");
    let output = node.shell("sysctls", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await;
    assert_eq!(output, "99\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_so_in_dockers_words() {
    let node = Node::with_busybox().await;
    let plain = Image::new("plain:1", vec![layer(&[Member::file("plain", b"no program").mode(0o644)])]);
    node.load(&plain).await;
    let cases = [
        ("busybox", "nope", 127, "exec: \"nope\": executable file not found in $PATH"),
        ("busybox", "/no/such", 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("busybox", "/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ("busybox", "/etc", 126, "exec: \"/etc\": is a directory"),
        ("plain:1", "/plain", 126, "exec: \"/plain\": permission denied"),
    ];
    for (number, (image, program, code, words)) in cases.into_iter().enumerate() {
        let id = format!("case-{number}");
        let spec = ContainerSpec { image: node.image(image), ..node.spec(&id, &[program]) };
        let error = node.start(spec).await.expect_err(program).to_string();
        assert!(error.ends_with(words), "{error}");
        let status = node.engine.container(&id).expect("it is kept");
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(code)), "{program}");
        assert_eq!(status.error.as_deref(), Some(error.as_str()));
    }
    let empty = ContainerSpec { args: None, image: node.image("plain:1"), ..node.spec("empty", &[]) };
    let error = node.start(ContainerSpec { entrypoint: Some(vec![]), ..empty }).await.expect_err("no command");
    assert_eq!(error.to_string(), "no command specified");
    node.finish().await;
}

/// What a daemon's own starter did to its signals (`nohup` ignores SIGHUP) is no business of containers.
#[tokio::test(flavor = "multi_thread")]
async fn signals_do_what_programs_expect_however_the_daemon_was_started() {
    let deaf = |dir: &Path| {
        let (program, shim) = (dir.join("deaf"), common::shim());
        let script = format!("#!/bin/sh\ntrap '' HUP INT QUIT TERM USR1\nexec {} \"$@\"\n", shim.display());
        fs::write(&program, script).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("that can be run");
        program
    };
    let node = Node::with_program(deaf).await;
    node.load(&Image::busybox()).await;
    // The first 28: of the others the C library keeps two to itself.
    let line = "exec awk '/^Sig(Blk|Ign)/{print substr($2, 10)}' /proc/self/status";
    let expected = "0000000\n0000000\n";
    assert_eq!(node.shell("one", line).await, expected);
    node.start(node.spec("two", &["sleep", "1000"])).await.expect("it starts");
    assert_eq!(node.exec("two", &["sh", "-c", line]).await.expect("exec"), (0, expected.to_owned()));
    node.finish().await;
}
