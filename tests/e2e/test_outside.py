"""A machine dials and resolves as the host's user would: through the host's proxy, by the host's trusted authorities and
those of /etc/docker/certs.d, from a resolver and a registry that listen on the host's loopback only."""

import contextlib
import pathlib
import subprocess
import sys

import debian
import images
import pytest
from cluster import Cluster
from host import Host
from manifests import pod, container
from registry import Registry
from wait import until

HERE = pathlib.Path(__file__).parent
TLS_PORT, PROXY_PORT = 5443, 3128
TLS_CONFIG = """
version: 0.1
log: {{ level: error, accesslog: {{ disabled: true }} }}
storage: {{ filesystem: {{ rootdirectory: {data} }} }}
http: {{ addr: "127.0.0.1:{port}", tls: {{ certificate: {folder}/server.crt, key: {folder}/server.key }} }}
"""


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


def certificates(folder, *names):
    """An authority `ca.crt` and a server's certificate of its making for these names."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    extensions = ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    extensions += ["-addext", "basicConstraints=CA:FALSE"]
    signer = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"]
    output = ["-keyout", folder / "server.key", "-out", folder / "server.crt"]
    openssl("req", "-x509", *key, *signer, "-subj", "/CN=server", *extensions, *output)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Behind its proxy are two registries' names; it trusts the authority of one by certs.d, of the other in general."""
    folder = tmp_path_factory.mktemp("outside")
    registry = Registry(folder / "registry")
    registry.push("busybox:latest", "tools/busybox:1")
    registry.push("busybox:latest", "tools/busybox:2")
    registry.close()
    certificates(folder, "certs.example", "trusted.example", "stranger.example", "listed.example")
    (folder / "config.yml").write_text(TLS_CONFIG.format(data=folder / "registry/data", port=TLS_PORT, folder=folder))

    host = Host(folder / "host")
    for name in ["certs.example", f"listed.example:{TLS_PORT}"]:
        own = f"/etc/docker/certs.d/{name}"
        host.run("sh", "-ec", f"mkdir -p {own}; cp {folder}/ca.crt {own}/")
    host.run("sh", "-ec", "printf 'nameserver 127.0.0.53\nnameserver ::1\n' > /etc/resolv.conf")
    # As systemd has all of them.
    host.run("sh", "-ec", "mkdir /var/lib/later; mount -t tmpfs none /var/lib/later; mount --make-shared /var/lib/later")
    with contextlib.ExitStack() as stack:
        stack.callback(host.close)
        log = stack.enter_context(open(folder / "log", "w"))
        serve = [debian.programs() / "docker-registry", "serve", folder / "config.yml"]
        stack.enter_context(ending(host.begin(*serve, stdout=log, stderr=log)))
        behind = [f"{name}.example=127.0.0.1:{TLS_PORT}" for name in ["certs", "trusted", "stranger"]]
        command = [sys.executable, HERE / "outside.py", PROXY_PORT, *behind, "127.0.0.53", "far.example=192.0.2.7"]
        asked = stack.enter_context(open(folder / "asked", "w"))
        stack.enter_context(ending(host.begin(*command, stdout=asked, stderr=log)))
        host.asked = lambda: (folder / "asked").read_text().splitlines()
        until(lambda: "up" in host.asked(), "proxy and resolver listen")
        host.authority = folder / "ca.crt"
        yield host


@contextlib.contextmanager
def ending(process):
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def behind_proxy(host, tmp_path_factory):
    cluster = Cluster("outside", tmp_path_factory.mktemp("home"), host.enter)
    cluster.env |= {"HTTPS_PROXY": f"http://127.0.0.1:{PROXY_PORT}", "NO_PROXY": "near.example,listed.example"}
    cluster.start()
    yield cluster
    cluster.delete()


def test_a_registry_behind_the_proxy_with_an_authority_of_its_own(host, behind_proxy):
    behind_proxy.tug("image pull", "certs.example/tools/busybox:1")
    assert "CONNECT certs.example:443" in host.asked()
    assert "certs.example/tools/busybox" in behind_proxy.tug("image ls")


def test_an_unknown_authority_is_refused(behind_proxy):
    message = behind_proxy.refused("image pull", "stranger.example/tools/busybox:1")
    assert "certificate" in message and "stranger.example" in message


def test_what_needs_no_proxy_is_not_asked_of_it(host, behind_proxy):
    message = behind_proxy.refused("image pull", "near.example/tools/busybox:1")
    assert "near.example" in message
    assert not any("near.example" in line for line in host.asked())


def test_what_is_on_the_loopback_is_not_asked_of_the_proxy(host, behind_proxy):
    behind_proxy.tug("image pull", f"127.0.0.1:{TLS_PORT}/tools/busybox:1")
    assert "ready" in behind_proxy.tug("status")
    assert not any("127.0.0.1" in line for line in host.asked())


def test_a_name_that_the_hosts_file_alone_knows(host, behind_proxy):
    image = f"listed.example:{TLS_PORT}/tools/busybox:2"
    assert "listed.example" in behind_proxy.refused("image pull", image)
    host.run("sh", "-ec", "echo 127.0.0.1 listed.example >> /etc/hosts")
    behind_proxy.tug("image pull", image)
    assert "listed.example" not in behind_proxy.ssh("cat /etc/hosts")


TRUST = {
    "SSL_CERT_DIR": "mkdir /etc/authorities; cp {authority} /etc/authorities/",
    "bundle": "cat {authority} >> /etc/ssl/certs/ca-certificates.crt",
}


@pytest.mark.parametrize("way", TRUST)
def test_an_authority_that_the_host_trusts(host, tmp_path, way):
    host.run("sh", "-ec", TRUST[way].format(authority=host.authority))
    cluster = Cluster("trusting", tmp_path / "home", host.enter)
    cluster.env |= {"HTTPS_PROXY": f"http://127.0.0.1:{PROXY_PORT}"}
    if way == "SSL_CERT_DIR":
        cluster.env[way] = "/etc/authorities"
    cluster.start()
    try:
        cluster.tug("image pull", "trusted.example/tools/busybox:2")
    finally:
        cluster.delete()


def test_a_resolver_on_the_hosts_loopback(behind_proxy):
    """All pods reach it, whatever network and DNS policy they have."""
    behind_proxy.tug("image load", images.make()["busybox:latest"])
    kube = behind_proxy.kubectl
    pods = {
        "cluster-first": {},
        "default": {"dnsPolicy": "Default"},
        "host-network": {"hostNetwork": True},
        "host-network-too": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
    }
    kube.apply(*(pod(name, container(script="sleep inf"), **spec) for name, spec in pods.items()))
    for name in pods:
        kube.wait(f"pod/{name}", "condition=Ready")
        assert "192.0.2.7" in kube.sh(name, "nslookup far.example 2>&1; true"), name
        assert "NXDOMAIN" in kube.sh(name, "nslookup nowhere.example 2>&1; true"), name
    assert "nameserver 127.0.0.53\nnameserver ::1\n" in kube.sh("host-network", "cat /etc/resolv.conf")
    for resolver in ["127.0.0.53", "::1"]:
        assert "192.0.2.7" in kube.sh("host-network", f"nslookup far.example {resolver} 2>&1; true"), resolver
    assert "192.0.2.7" in behind_proxy.ssh("getent hosts far.example")


def test_what_the_host_mounts_later_is_in_the_machine(host, behind_proxy):
    host.run("sh", "-ec", "cd /var/lib/later; mkdir a; mount -t tmpfs none a; touch a/file")
    assert behind_proxy.ssh("ls /var/lib/later/a") == "file\n"
    host.run("umount", "/var/lib/later/a")
    assert behind_proxy.ssh("ls /var/lib/later/a") == ""
