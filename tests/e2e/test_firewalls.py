"""Beside others who filter what they don't know: Debian's Docker daemon, ufw's and firewalld's way of dropping."""

import re

import pytest
from cluster import Cluster
from dockerd import Dockerd
from host import Host
import images
from manifests import container, pod, service, sleeper
from wait import until

# An address outside of the made host, behind a link of it, where a server listens.
OUTSIDE = "198.51.100.2"
OUTSIDE_UP = f"""
ip netns add outside
ip link add outside type veth peer name inside netns outside
ip address add 198.51.100.1/24 dev outside
ip link set outside up
ip -n outside address add {OUTSIDE}/24 dev inside
ip -n outside link set inside up
exec ip netns exec outside python3 -m http.server 80 --directory /usr/share/doc
"""

# As ufw's and firewalld's rules look once loaded: all that isn't theirs is dropped.
FIREWALLS = {
    "ufw": """
table ip filter {
    chain INPUT { type filter hook input priority filter; policy drop;
        iifname "lo" accept; ct state established,related accept; tcp dport 22 accept; }
    chain FORWARD { type filter hook forward priority filter; policy drop; ct state established,related accept; }
    chain OUTPUT { type filter hook output priority filter; policy accept; }
}
""",
    "firewalld": """
table inet firewalld {
    chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
        ct state established,related accept; iifname "lo" accept; tcp dport 22 accept; reject with icmpx admin-prohibited; }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
        ct state established,related accept; reject with icmpx admin-prohibited; }
}
""",
}


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path / "host")
    server = host.begin("sh", "-ec", OUTSIDE_UP)
    until(lambda: "Directory listing" in host.run("python3", "-c", fetch(f"http://{OUTSIDE}/")), "the outside answers")
    yield host
    server.kill()
    server.wait()
    host.close()


def fetch(url):
    """A program that prints a page."""
    return f"import urllib.request as request; print(request.urlopen({url!r}, timeout=3).read().decode())"


def use(host, name, tmp_path):
    """A cluster that is used from the host and from whose pods the outside is reached; deleted in the end."""
    cluster = Cluster(name, tmp_path / "home", host.enter)
    cluster.start()
    for image in ["echo:1", "busybox:latest"]:
        cluster.tug("image load", images.make()[image])
    kube = cluster.kubectl
    kube.apply(
        pod("echo", container("echo:1")),
        service("echo", {"port": 80, "targetPort": 8080}, type="NodePort"),
        sleeper("client"),
    )
    kube.wait("pods --all", "condition=Ready")
    port = kube.path("service echo", ".spec.ports[0].nodePort")
    page = fetch(f"http://{cluster.ip()}:{port}/")
    assert "host=echo" in until(lambda: host.run("python3", "-c", page), "the NodePort answers the host")
    assert "host=echo" in kube.sh("client", "timeout 5 wget -qO- http://echo/")
    assert "Directory listing" in kube.sh("client", f"timeout 5 wget -qO- http://{OUTSIDE}/")
    return cluster


def test_beside_dockerd(host, tmp_path):
    dockerd = Dockerd(host)
    try:
        assert "-P FORWARD DROP" in host.run("chroot", dockerd.folder / "root", "iptables", "-S", "FORWARD")
        before = host.run("nft", "list", "ruleset")
        dockerd.load(images.make()["curl:latest"])
        page = ["run", "--rm", "curl:latest", "curl", "-sS", "-m", "5", f"http://{OUTSIDE}/"]
        assert "Directory listing" in dockerd.docker(*page)
        cluster = use(host, "beside", tmp_path)
        assert "Directory listing" in dockerd.docker(*page)
        cluster.delete()
        assert "Directory listing" in dockerd.docker(*page)
        assert uncounted(host.run("nft", "list", "ruleset")) == uncounted(before)
    finally:
        dockerd.close()


def uncounted(ruleset):
    """Without the counters, which any packet changes."""
    return re.sub("packets [0-9]+ bytes [0-9]+", "", ruleset)


@pytest.mark.parametrize("name", FIREWALLS)
def test_beside_a_firewall(host, tmp_path, name):
    tables = {"ufw": "ip filter", "firewalld": "inet firewalld"}
    (tmp_path / "rules").write_text(FIREWALLS[name])
    host.run("nft", "-f", tmp_path / "rules")
    before = host.run("nft", "list", "ruleset")
    cluster = use(host, name, tmp_path)
    # Loaded anew it has forgotten the links; starting what runs already tells it again.
    host.run("sh", "-ec", f"nft delete table {tables[name]}; nft -f {tmp_path}/rules")
    page = f"timeout 2 wget -qO- http://{OUTSIDE}/ 2>&1; true"
    assert "Directory listing" not in cluster.kubectl.sh("client", page)
    assert "is running already" in cluster.start()
    assert "Directory listing" in cluster.kubectl.sh("client", page)
    cluster.delete()
    assert host.run("nft", "list", "ruleset") == before
