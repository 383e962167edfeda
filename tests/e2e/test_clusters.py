"""What a person types at the computer: `tug start` and what follows, for one cluster and for several."""

import json
import os
import pathlib
import pwd
import re
import subprocess

import images
import kubectl
import pytest
from cluster import Cluster, program
from host import Host
from manifests import container, deployment, pod, secret, service, sleeper
from test_kubectl import get
from wait import free_port, until


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path / "host")
    yield host
    host.close()


def tug(*args, env=None):
    return kubectl.run([program(), *args], env=env)


def cgroups(name):
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"*{name}*"], capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_a_clusters_life(new_cluster, mirror):
    """start, status, ip, ssh, logs, kubeconfig, stop, start again, delete."""
    cluster = new_cluster("life")
    printed = cluster.start(*mirror)
    assert f'Cluster "{cluster.name}" is ready after' in printed and "kubectl get nodes" in printed
    kube = cluster.kubectl
    assert kube("config", "current-context") == f"{cluster.name}\n"
    assert oct((cluster.folder / "kubeconfig").stat().st_mode) == "0o100600"
    port = int(kube("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}").rsplit(":", 1)[1])
    assert port >= 6443

    status = json.loads(cluster.tug("status", "-o", "json"))
    assert (status["name"], status["machine"], status["apiServer"]["ready"]) == (cluster.name, "Running", True)
    assert status["nodes"] == [{"name": cluster.name, "ready": True}]
    assert "Ready" in cluster.tug("status")
    assert status["address"] == cluster.ip()
    assert cluster.ssh("hostname") == f"{cluster.name}\n"
    with pytest.raises(kubectl.Failed) as failed:
        cluster.ssh("exit 5")
    assert failed.value.code == 5
    assert "ready" in cluster.tug("logs")
    printed = json.loads(
        kubectl.run([kube.program, "config", "view", "-o", "json", "--kubeconfig", save(cluster)], env=cluster.env)
    )
    assert printed["clusters"][0]["cluster"]["server"] == f"https://{cluster.ip()}:6443"
    assert kubectl.run([kube.program, "--kubeconfig", save(cluster), "get", "nodes", "-o", "name"]) == (
        f"node/{cluster.name}\n"
    )

    kube.apply(deployment("web", container("nginx")), secret("keys", a="b"), service("web", 80, type="NodePort"))
    kube.rolled_out("deployment/web")
    node_port = int(kube.path("service web", ".spec.ports[0].nodePort"))
    until(lambda: get(cluster.ip(), node_port), "the NodePort answers")
    # A second start of a running cluster only makes its context current again.
    kube("config", "set-context", "other")
    kube("config", "use-context", "other")
    assert "is running already" in cluster.start()
    assert kube("config", "current-context") == f"{cluster.name}\n"

    address = cluster.ip()
    cluster.tug("stop")
    assert cluster.tug("ip").strip() == address
    assert json.loads(said(cluster, "status", "-o", "json").stdout)["machine"] == "Stopped"
    assert "is stopped; start it with" in cluster.refused("ssh")
    assert processes(cluster) == []
    cluster.start()
    assert (cluster.ip(), kube.path("secret keys", ".data.a")) == (address, "Yg==")
    kube.rolled_out("deployment/web")
    assert "Welcome" in until(lambda: get(address, node_port), "the NodePort answers again")
    assert kube("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}") == f"https://127.0.0.1:{port}"

    cluster.delete()
    contexts = kube("config", "get-contexts", "-o", "name").split()
    assert cluster.name not in contexts
    assert "is no cluster" in cluster.refused("status")
    assert processes(cluster) == []
    assert cgroups(cluster.name) == []
    assert cluster.name not in pathlib.Path("/proc/mounts").read_text()
    assert "There is no cluster" in cluster.tug("delete")


def save(cluster):
    path = cluster.folder / "printed"
    path.write_text(cluster.tug("kubeconfig"))
    return path


def said(cluster, *args):
    command = cluster.command(*args)
    return subprocess.run(command, capture_output=True, text=True, env=cluster.env, check=False)


def processes(cluster):
    """Processes that carry the cluster's name in their arguments or cgroup."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                text = (entry / "cgroup").read_text() + (entry / "cmdline").read_text()
            except OSError:
                continue
            if cluster.name in text and entry.name != str(os.getpid()):
                found.append(text)
    return found


def test_delete_leaves_nothing(host, tmp_path):
    """Links, routes, firewall tables, mounts, processes, files and cgroups are as before."""
    cluster = Cluster("gone", tmp_path / "home", host.enter)
    before = host.state()
    cluster.start()
    try:
        cluster.tug("image load", images.make()["nginx:latest"])
        kube = cluster.kubectl
        kube.apply(
            deployment("web", container("nginx"), replicas=2),
            service("web", 80, type="NodePort"),
            pod(
                "mounts",
                container(script="sleep inf", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
                volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}],
            ),
        )
        kube.rolled_out("deployment/web")
    finally:
        cluster.delete()
    unchanged(host, before)
    assert cgroups(f"tug-{cluster.name}") == []
    assert "contexts: []" in (tmp_path / "home/kubeconfig").read_text().replace("contexts: null", "contexts: []")


def test_the_first_of_two_clusters_goes_first(host, tmp_path):
    """What was made on the host for both stays until the second goes: it is what the second's own is mounted on."""
    first, second = (Cluster(name, tmp_path / name, host.enter) for name in ["first", "second"])
    host.run("sh", "-c", "rmdir /etc/cni /etc/tug 2>/dev/null; true")
    before = host.state()
    first.start()
    try:
        second.start()
        first.delete()
        assert "config.yaml" in second.ssh("ls /etc/tug")
        mounted = second.ssh("cut -d' ' -f2 /proc/self/mounts").split()
        assert {"/etc/tug", "/etc/cni", "/opt/cni", "/var/log/pods", "/var/log/containers"} <= set(mounted)
    finally:
        first.delete()
        second.delete()
    unchanged(host, before)


def test_a_killed_machine_is_cleaned_up_by_the_next_start(host, tmp_path):
    cluster = Cluster("fallen", tmp_path / "home", host.enter)
    before = host.state()
    cluster.start()
    host.run("sh", "-c", f"kill -9 $(cut -d' ' -f1 /run/tug/machines/{cluster.name}/pid)")
    until(lambda: "Stopped" in said(cluster, "status").stdout, "the machine is down")
    cluster.start()
    assert cluster.kubectl("get", "nodes", "-o", "name") == f"node/{cluster.name}\n"
    cluster.delete()
    unchanged(host, before)


def test_two_clusters_at_once(new_cluster, cluster, mirror):
    """Each with its own address, port, names and pods."""
    other = new_cluster("other")
    other.start(*mirror)
    assert other.ip() != cluster.ip()
    for each in [cluster, other]:
        each.kubectl.apply(
            deployment("twin", container("echo:1")),
            service("twin", {"port": 80, "targetPort": 8080}, type="NodePort"),
            sleeper("client"),
        )
    names = []
    for each in [cluster, other]:
        kube = each.kubectl
        kube.rolled_out("deployment/twin")
        kube.wait("pod client", "condition=Ready")
        port = int(kube.path("service twin", ".spec.ports[0].nodePort"))
        (name,) = kube.path("pods -l app=twin", ".items[*].metadata.name").split()
        names.append(name)
        assert f"host={name}" in until(lambda: get(each.ip(), port), "its own pod answers")  # noqa: B023
        assert f"host={name}" in kube.sh("client", "wget -qO- http://twin/")
    assert len(set(names)) == 2
    other.delete()
    assert f"host={names[0]}" in cluster.kubectl.sh("client", "wget -qO- http://twin/")
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
    cluster.kubectl("delete", "deployment,service,pod", "twin", "client", "--ignore-not-found", "--wait=false")


def test_contexts_in_the_users_files(host, tmp_path):
    """kubectl's own rules: the first file of $KUBECONFIG, else ~/.kube/config; what was there stays."""
    cluster = Cluster("ctx", tmp_path / "home", host.enter)
    first = tmp_path / "home/kubeconfig"
    run = [kubectl.stock(), "config"]
    for args in [
        ["set-cluster", "theirs", "--server=https://192.0.2.1"],
        ["set-context", "theirs", "--cluster=theirs", "--user=them"],
        ["use-context", "theirs"],
    ]:
        kubectl.run([*run, *args], env=cluster.env)
    cluster.start()
    assert sorted(kubectl.run([*run, "get-contexts", "-o", "name"], env=cluster.env).split()) == [cluster.name, "theirs"]
    cluster.env.pop("KUBECONFIG")
    cluster.start()
    assert kubectl.run([*run, "current-context"], env=cluster.env) == f"{cluster.name}\n"
    assert (tmp_path / "home/.kube/config").exists()
    cluster.env["KUBECONFIG"] = str(first)
    cluster.delete()
    assert kubectl.run([*run, "get-contexts", "-o", "name"], env=cluster.env) == "theirs\n"


def test_under_sudo_the_context_is_the_users(host, tmp_path):
    user = pwd.getpwnam("nobody")
    home = tmp_path / "home"
    cluster = Cluster("sudo", home, host.enter)
    # Whose home folder is not theirs to write to gets it where $KUBECONFIG says.
    cluster.env |= {"SUDO_UID": str(user.pw_uid), "SUDO_GID": str(user.pw_gid)}
    cluster.start()
    assert (home / "kubeconfig").stat().st_uid == user.pw_uid
    cluster.delete()


def test_images(cluster, registry):
    assert "echo" in cluster.tug("image load", images.make()["echo:2"])
    registry.push("echo:1", "library/pulled:7")
    assert "pulled" in cluster.tug("image pull", "pulled:7")
    listed = json.loads(cluster.tug("image ls", "-o", "json"))
    tags = {tag for image in listed for tag in image["RepoTags"]}
    assert {"echo:2", "pulled:7"} <= {tag.removeprefix("docker.io/library/") for tag in tags}
    assert "pulled:7" in cluster.tug("image ls")
    assert "no-such-file" in cluster.refused("image load", "/no-such-file")
    assert "not found" in cluster.refused("image pull", "pulled:no-such-tag")


def test_a_loaded_image_runs_under_pull_policy_always(cluster, kube, tmp_path):
    """Nobody has to push to try something; an event says that it was not pulled."""
    layer, config = images.echo(tmp_path, "mine")
    images.archive(tmp_path / "mine.tar", ["mine:latest"], layer, config)
    cluster.tug("image load", tmp_path / "mine.tar")
    kube("run", "mine", "--image=mine")
    assert kube.path("pod mine", ".spec.containers[0].imagePullPolicy") == "Always"
    kube.wait("pod mine", "condition=Ready")
    messages = [message for reason, message in kube.events("mine") if reason == "Pulled"]
    assert any('"mine"' in message and "Always" in message for message in messages), messages


def as_nobody(*command):
    user = pwd.getpwnam("nobody")
    return subprocess.run(command, capture_output=True, text=True, user=user.pw_uid, group=user.pw_gid, check=False)


def test_without_root(tmp_path):
    tmp_path.chmod(0o755)
    readable = pathlib.Path("/tmp") / f"tug-{os.getpid()}"
    readable.write_bytes(program().read_bytes())
    readable.chmod(0o755)
    try:
        verbs = ["start", "stop", "delete", "status", "ssh", "server", "ip", "kubeconfig", "logs", "image"]
        for verb in verbs:
            done = as_nobody(readable, verb, *(["ls"] if verb == "image" else []))
            assert done.returncode == 1
            assert done.stderr.startswith(f"Error: tug {verb} needs root"), done.stderr
            assert f"try: sudo tug {verb}" in done.stderr
        assert as_nobody(readable, "version").returncode == 0
    finally:
        readable.unlink()


def test_what_lies_on_disk_is_roots_alone(cluster, kube):
    """Containers' files have the owners and modes of their images, and their records hold what Secrets held."""
    kube.apply(sleeper("keeper"))
    kube.wait("pod keeper", "condition=Ready")
    state = pathlib.Path("/var/lib/tug/machines") / cluster.name
    for directory in [state, state.parent, *(state / "root/var/lib/tug" / name for name in ["engine", "node", "server"])]:
        assert oct(directory.stat().st_mode & 0o777) == "0o700", directory
    assert "Permission denied" in as_nobody("ls", state.parent).stderr
    records = [*state.glob("root/var/lib/tug/engine/containers/*/*.json"), *state.glob("root/var/lib/tug/**/*.db")]
    assert {"container.json", "config.json", "state.db"} <= {record.name for record in records}
    modes = {record: oct(record.stat().st_mode & 0o777) for record in records}
    assert set(modes.values()) == {"0o600"}, modes


def unchanged(host, before):
    after = host.state()
    for what, text in before.items():
        assert after[what] == text, what


def test_a_port_that_is_taken(host, tmp_path):
    cluster = Cluster("port", tmp_path / "home", host.enter)
    with host.listening() as port:
        before = host.state()
        message = cluster.refused("start", "--api-port", port)
        unchanged(host, before)
    assert f"port {port}" in message and "in use" in message
    assert "There is no cluster" in cluster.tug("delete")


def test_a_port_is_kept_for_life(host, tmp_path):
    """It isn't taken from a program that has it meanwhile, nor given up for another that is asked for."""
    cluster = Cluster("kept", tmp_path / "home", host.enter)
    port, other = free_port(), free_port()
    for asked in [port, other]:
        cluster.start("--api-port", asked)
        server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
        assert server == f"https://127.0.0.1:{asked}"
        refused = f"has port {asked} for its life"
        assert refused in cluster.refused("start", "--api-port", free_port())
        cluster.tug("stop")
        assert refused in cluster.refused("start", "--api-port", free_port())
        if asked == port:
            cluster.delete()
    with host.listening() as taken:
        record = host.folder / "tug/machines" / cluster.name / "cluster.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"api_port": taken}))
        message = cluster.refused("start")
        assert f"port {taken}" in message and "in use" in message and "end what uses it" in message
    cluster.start()
    cluster.delete()


def test_mirrors_are_replaced_and_given_up(host, tmp_path):
    cluster = Cluster("mirrors", tmp_path / "home", host.enter)
    here = ["--registry-mirror", "docker.io=http://127.0.0.1:1"]
    there = ["--registry-mirror", "docker.io=http://127.0.0.1:2"]
    config = host.folder / "tug/machines" / cluster.name / "root/etc/tug/config.yaml"
    cluster.start(*here)
    cluster.start(*here)
    for other in [there, ["--no-registry-mirror"]]:
        assert f"tug stop --name {cluster.name}" in cluster.refused("start", *other)
        cluster.tug("stop")
        cluster.start(*other)
        assert "127.0.0.1:1" not in config.read_text()
        assert ("127.0.0.1:2" in config.read_text()) == (other == there)
    cluster.delete()


def test_a_network_of_the_hosts_that_the_cluster_hides(host, tmp_path):
    host.run("sh", "-ec", "ip link add lan type bridge; ip link set lan up; ip address add 10.100.7.1/24 dev lan")
    cluster = Cluster("hides", tmp_path / "home", host.enter)
    started = said(cluster, "start")
    assert started.returncode == 0
    assert "Warning: this host reaches 10.100.7.0/24" in started.stderr and "10.96.0.0/12" in started.stderr
    cluster.delete()


def test_open_files(host, tmp_path):
    """The server and its containers may have as many as the caller's hard limit says, not a shell's 1024."""
    cluster = Cluster("files", tmp_path / "home", [*host.enter, "prlimit", "--nofile=1024:4096"])
    cluster.start()
    cluster.tug("image load", images.make()["busybox:latest"])
    limits = cluster.ssh("cat /proc/$(pgrep --exact tug-server)/limits")
    assert re.search(r"Max open files +4096 +4096 ", limits), limits
    cluster.kubectl.apply(sleeper("files"))
    cluster.kubectl.wait("pod files", "condition=Ready")
    assert cluster.kubectl.sh("files", "ulimit -Sn; ulimit -Hn").split() == ["4096", "4096"]
    cluster.delete()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["start", "--name", "Upper"], "lower case alphanumeric"),
        (["start", "--name", "x" * 50], "no more than 40 bytes"),
        (["start", "--nodes", "3"], "3"),
        (["start", "--registry-mirror", "docker.io"], "expected REGISTRY=URL"),
        (["status", "--name", "nobody-made-it"], 'there is no cluster "nobody-made-it"'),
        (["ssh", "--name", "nobody-made-it"], "make it with: tug start --name nobody-made-it"),
        (["frobnicate"], "unrecognized subcommand"),
        (["server", "--data-dir", "relative"], "must be an absolute path"),
        (["server", "--config", "/no/such/file"], "reading /no/such/file"),
    ],
)
def test_wrong_commands_say_what_is_wrong(args, message):
    with pytest.raises(kubectl.Failed) as failed:
        tug(*args)
    assert failed.value.code in (1, 2)
    assert message in failed.value.stderr


def test_a_data_directory_that_overlayfs_cannot_use(host, tmp_path):
    """An overlay is one: the directory is named, and nothing is left half made."""
    host.run(
        "sh",
        "-ec",
        "cd /var/lib/docker; mkdir up work; umount /var/lib/tug; mount -t overlay -o "
        "lowerdir=/srv,upperdir=/var/lib/docker/up,workdir=/var/lib/docker/work overlay /var/lib/tug",
    )
    cluster = Cluster("nested", tmp_path / "home", host.enter)
    before = host.state()
    message = cluster.refused("start")
    assert "/var/lib/tug" in message and "overlay" in message
    assert host.state()["links"] == before["links"]


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_full_disk(host, tmp_path, size):
    host.run("sh", "-c", f"umount /var/lib/tug && mount -t tmpfs -o size={size} tmpfs /var/lib/tug")
    cluster = Cluster("full", tmp_path / "home", host.enter)
    before = host.state()
    message = cluster.refused("start")
    assert "is full: 0 MiB are left" in message
    unchanged(host, before)
    assert "There is no cluster" in cluster.tug("delete")


def test_nothing_is_needed_but_glibc():
    done = subprocess.run(["readelf", "--dynamic", program()], capture_output=True, text=True, check=True)
    needed = {line.split("[")[1].split(".so")[0] for line in done.stdout.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc", "libm", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_completion_and_version():
    assert tug("version").startswith("tug ") and "Kubernetes v1.36." in tug("version")
    assert "_tug()" in tug("completion", "bash")
    assert "#compdef tug" in tug("completion", "zsh")
    for verb in ["start", "stop", "delete", "status", "ip", "ssh", "logs", "kubeconfig", "image", "server"]:
        assert f"  {verb}" in tug("--help")


def test_output_that_nobody_reads_to_its_end(cluster):
    """`tug logs | head -1`: no panic, no message. Bash tells how the first of the two ended."""
    for verb in ["completion bash", *(f"{verb} --name {cluster.name}" for verb in ["status", "kubeconfig", "image ls"])]:
        script = f'{program()} {verb} | true; [ "${{PIPESTATUS[0]}}" = 0 ]'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=cluster.env, check=False)
        assert (done.returncode, done.stderr) == (0, ""), verb


def test_names_of_processes(cluster):
    """Each process of Tug is seen as such in `ps`."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "exe").readlink() == program():
                assert (entry / "comm").read_text().startswith("tug")
        except OSError:
            continue
