"""`tug server` on a host itself, as a service manager runs it: settings from a file, signals, restarts."""

import contextlib
import os
import pathlib
import re
import signal

import debian
import images
import kubectl
import pytest
from cluster import program
from host import Host
from manifests import container, deployment, pod, service
from wait import until

HERE = pathlib.Path(__file__).parent

SETTINGS = """
data-dir: /var/lib/docker/tug
listen: 192.0.2.10:7443
node-name: metal
service-cidr: 10.200.0.0/16
cluster-cidr: 10.201.0.0/16
tls-san: [api.example]
"""
# A network of its own, as a host with a default route has one.
NETWORK = """
ip link add eth0 type bridge
ip link set eth0 up
ip address add 192.0.2.10/24 dev eth0
ip route add default via 192.0.2.1
mkdir -p /etc/tug
"""
# Control groups are the kernel's: a group is all that this host has of each hierarchy, so that what is called `tug` there is
# its own.
CGROUPS = """
for each in $(awk '$3 == "cgroup" {{ print $2 }}' /proc/mounts); do
  mkdir $each/{name}
  for file in cpus mems; do
    [ ! -e $each/cpuset.$file ] || cat $each/cpuset.$file > $each/{name}/cpuset.$file
  done
  mount --bind $each/{name} $each
done
"""


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path / "host")
    cgroup = f"tug-e2e-server-{os.getpid()}"
    host.run("sh", "-ec", NETWORK + CGROUPS.format(name=cgroup))
    yield host
    host.close()
    for top in pathlib.Path("/sys/fs/cgroup").glob(f"*/{cgroup}"):
        for left, _, _ in os.walk(top, topdown=False):
            os.rmdir(left)


@contextlib.contextmanager
def server(host, *flags, end="TERM"):
    """Ready when this is entered, and over when it is left: told so as a service manager does, or killed."""
    log = host.folder / "server.log"
    with open(log, "a") as output:
        print("begin", file=output, flush=True)
        process = host.begin(program(), "server", *flags, stdout=output, stderr=output)
        said = lambda: log.read_text().rpartition("begin\n")[2]
        try:
            until(lambda: "tug::server: ready" in said() or process.poll() is not None, "the server is ready or over")
            assert process.poll() is None, said()
            yield
        finally:
            host.run("pkill", "--signal", end, "--exact", "tug-server")
            assert process.wait(timeout=60) == (0 if end == "TERM" else -signal.SIGKILL)


def client(host, data_dir):
    return kubectl.Kubectl(
        kubectl.stock(), {"KUBECONFIG": f"{data_dir}/server/admin.kubeconfig"}, enter=host.enter
    )


def started(kube):
    """When each container began, and how often it was begun anew."""
    states = [pod["status"]["containerStatuses"][0] for pod in kube.get("pods")]
    return sorted((state["containerID"], state["restartCount"]) for state in states)


def test_settings_come_from_the_file_and_the_flags(host):
    host.run("sh", "-ec", f"printf %s '{SETTINGS}' > /etc/tug/config.yaml")
    with server(host, "--node-name", "flagged"):
        kube = client(host, "/var/lib/docker/tug")
        node = kube.get("node", "flagged")
        assert node["spec"]["podCIDR"] == "10.201.0.0/24"
        assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.10"}
        assert kube.path("service/kubernetes", ".spec.clusterIP") == "10.200.0.1"
        assert kube.path("endpoints/kubernetes", ".subsets[0].addresses[0].ip") == "192.0.2.10"
        answer = host.run(
            "openssl", "s_client", "-connect", "192.0.2.10:7443", "-verify_hostname", "api.example",
            "-verify_return_error", "-CAfile", "/var/lib/docker/tug/server/pki/ca.crt",
        )  # fmt: skip
        assert "Verification: OK" in answer
        # Nothing was put where the settings point elsewhere.
        assert host.run("sh", "-c", "ls /var/lib/tug") == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("data_dir: /x", "unknown field `data_dir`"),
        ("listen: nowhere", "invalid socket address"),
        ("service-cidr: 10.244.0.0/16", "overlap"),
        ("node-name: Upper_Case", "lower case"),
    ],
)
def test_settings_that_are_wrong(host, settings, message):
    host.run("sh", "-ec", f"echo '{settings}' > /etc/tug/config.yaml")
    assert message in refused(host)


def refused(host, *flags):
    with pytest.raises(kubectl.Failed) as failed:
        host.run(program(), "server", *flags)
    assert failed.value.code == 1
    return failed.value.stderr


def test_an_address_that_is_taken(host):
    with host.listening(6443):
        assert "Address already in use" in refused(host)


def test_one_server_has_a_directory_and_a_host(host):
    """Another is refused before it has touched anything, also one that could listen elsewhere."""
    with server(host):
        kube = client(host, "/var/lib/tug")
        kube("create", "configmap", "kept")
        files = "find /var/lib/tug /run/tug -type d -printf '%p %i %T@\\n'"
        # A new link's own IPv6 route comes when the kernel has made sure that nobody else has the address.
        look = lambda: {what: text for what, text in host.state().items() if what != "routes"}
        before, directories = look(), host.run("sh", "-c", files)
        message = refused(host, "--listen", "127.0.0.1:7443", "--node-name", "other")
        assert "another tug server is running on /var/lib/tug; end it first" in message
        assert look() == before
        assert host.run("sh", "-c", files) == directories
        message = refused(host, "--listen", "127.0.0.1:7443", "--data-dir", "/var/lib/docker/other")
        assert "another tug server is running on /run/tug; end it first" in message
        assert look() == before
        assert kube("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_containers_outlive_their_server(host):
    """Told to stop, killed, begun anew: what runs goes on, unchanged and reachable, and is let go of in the end."""
    listen = ["--listen", "127.0.0.1:6443"]
    kube = client(host, "/var/lib/tug")
    with server(host, *listen):
        archive = f"@{images.make()['nginx:latest']}"
        curl(host, "--unix-socket", "/run/tug/docker.sock", "--data-binary", archive, "http://engine/images/load")
        kube.apply(deployment("web", container("nginx"), replicas=2), service("web", 80, type="NodePort"))
        kube.rolled_out("deployment/web")
        page = f"http://192.0.2.10:{kube.path('service/web', '.spec.ports[0].nodePort')}/"
        before = started(kube)
        assert len(before) == 2
    assert "nginx" in curl(host, page)
    with server(host, *listen, end="KILL"):
        assert started(kube) == before
    assert "nginx" in curl(host, page)
    with server(host, *listen):
        assert started(kube) == before
        kube("delete", "deployment/web")
        kube("wait", "--for=delete", "pod", "--all", "--timeout=60s")
    assert "tug-shim" not in host.run("sh", "-c", "cat /proc/[0-9]*/comm")


@pytest.mark.skipif(
    pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists(),
    reason="with version 2 alone a made host has the real host's control groups, and these the commands would remove",
)
def test_what_it_leaves_is_removed_as_the_readme_says(host):
    """Pods, volumes, links, tables, control groups: after the commands the host is as it was before."""
    readme = (HERE.parents[1] / "README.md").read_text()
    commands = re.search(r"To\s+remove\s+them\s+at\s+once.*?\n\n(    .*?)\n\n", readme, re.DOTALL)[1]
    before = host.state()
    kube = client(host, "/var/lib/tug")
    with server(host, "--listen", "127.0.0.1:6443"):
        archive = f"@{images.make()['busybox:latest']}"
        curl(host, "--unix-socket", "/run/tug/docker.sock", "--data-binary", archive, "http://engine/images/load")
        mounts = [{"name": "memory", "mountPath": "/memory"}]
        kube.apply(
            pod(
                "pod",
                container(script="sleep inf", volumeMounts=mounts),
                volumes=[{"name": "memory", "emptyDir": {"medium": "Memory"}}],
            ),
            service("pod", 80, type="NodePort"),
        )
        kube.wait("pod/pod", "condition=Ready")
    left = host.state()
    assert {what for what in before if left[what] != before[what]} == set(before) - {"namespaces"}
    # The directory is one that is mounted here, and stays.
    host.run("sh", "-c", f"{commands} 2>/dev/null; [ ! \"$(ls -A /var/lib/tug)\" ]")
    assert host.state() == before
    assert host.run("find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "tug") == ""
    assert host.run("sh", "-c", "ls -A /var/log/pods /var/log/containers 2>/dev/null; true") == ""


def curl(host, *args):
    return host.run(debian.programs() / "curl", "--silent", "--show-error", "--fail", "--max-time", "30", *args)
