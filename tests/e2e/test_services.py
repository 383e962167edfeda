"""Services and names: from pods, from the node and from the host, over TCP and UDP."""

import socket

import pytest
from manifests import READY, container, deployment, pod, service, sleeper
from test_kubectl import get
from wait import until


@pytest.fixture
def echoes(kube):
    """A Deployment of three and a pod to ask from."""
    ready = container("echo:1", readinessProbe=READY, ports=[{"name": "web", "containerPort": 8080}])
    kube.apply(deployment("echo", ready, replicas=3), sleeper("client"))
    kube.rolled_out("deployment/echo")
    kube.wait("pod client", "condition=Ready")
    return kube


def hosts(kube, url, times=30):
    """Names of the pods that answered."""
    script = f"i=0; while [ $i -lt {times} ]; do timeout 5 wget -qO- {url} || echo failed; i=$((i + 1)); done"
    return {field for line in kube.sh("client", script).splitlines() for field in line.split() if "host=" in field}


def test_cluster_ip_spreads_over_ready_pods(echoes):
    echoes.apply(service("echo", {"port": 80, "targetPort": "web"}))
    address = echoes.path("service echo", ".spec.clusterIP")
    until(lambda: len(hosts(echoes, f"http://{address}/")) == 3, "all three pods answer")
    slices = echoes.get("endpointslices", "-l", "kubernetes.io/service-name=echo")
    assert sorted(len(slice["endpoints"]) for slice in slices) == [3]
    assert slices[0]["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    (first, *_) = echoes.path("pods -l app=echo", ".items[*].metadata.name").split()
    echoes.sh("client", f"wget -qO- http://{echoes.path(f'pod {first}', '.status.podIP')}:8080/sick")
    echoes.wait(f"pod {first}", "condition=Ready=False")
    until(lambda: hosts(echoes, f"http://{address}/", 10) & {f"host={first}"} == set(), "the sick pod isn't asked")
    assert len(hosts(echoes, f"http://{address}/")) == 2


def test_node_port(cluster, echoes):
    ports = [
        {"name": "web", "port": 80, "targetPort": 8080},
        {"name": "datagrams", "port": 81, "targetPort": 8080, "protocol": "UDP"},
    ]
    echoes.apply(service("echo", *ports, type="NodePort"))
    web, datagrams = map(int, echoes.path("service echo", ".spec.ports[*].nodePort").split())
    seen = until(lambda: get(cluster.ip(), web), "the NodePort answers the host")
    assert seen.startswith("version=1 host=echo-")
    assert {get(cluster.ip(), web).split()[1] for _ in range(40)} == {
        f"host={name}" for name in echoes.path("pods -l app=echo", ".items[*].metadata.name").split()
    }
    assert ask_udp(cluster.ip(), datagrams, b"ping").endswith(b" ping")
    assert "version=1" in cluster.ssh(f"wget -qO- http://{cluster.ip()}:{web}/ || curl -s http://{cluster.ip()}:{web}/")
    assert "version=1" in echoes.sh("client", f"wget -qO- http://{cluster.ip()}:{web}/")
    echoes("delete", "service", "echo")
    with pytest.raises(OSError):
        for _ in range(100):
            get(cluster.ip(), web)


def ask_udp(address, port, message):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect((address, port))

        def ask():
            client.send(message)
            return client.recv(2048)

        return until(ask, "the datagram is answered")


def test_udp_inside(cluster, echoes):
    echoes.apply(service("echo", {"port": 99, "targetPort": 8080, "protocol": "UDP"}))
    address = echoes.path("service echo", ".spec.clusterIP")
    lines = [
        "import socket",
        "client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "client.settimeout(1)",
        f"client.sendto(b'ping', ('{address}', 99))",
        "print(client.recv(99).decode())",
    ]
    ask = f'python3 -c "{"; ".join(lines)}"'
    until(lambda: cluster.ssh(ask).endswith(" ping\n"), "the datagram is answered")


def test_a_pod_reaches_itself_through_its_service(kube):
    kube.apply(pod("self", container("echo:1", name="server"), container(script="sleep inf", name="client")))
    kube.apply(service("front", {"port": 80, "targetPort": 8080}, selector={"app": "self"}))
    kube.wait("pod self", "condition=Ready")
    ask = "timeout 2 wget -qO- http://front/"
    assert "host=self" in until(lambda: kube.sh("self", f"{ask} || true", "-c", "client"), "its own Service answers")


def test_refused_where_nobody_serves(echoes):
    """A Service without endpoints refuses at once, an address without a Service too; neither hangs."""
    echoes.apply(service("nobody", 80))
    address = echoes.path("service nobody", ".spec.clusterIP")
    for host in [address, "10.111.222.99"]:
        until(
            lambda: "refused" in echoes.sh("client", f"timeout 5 wget -qO- http://{host}/ 2>&1 || true", timeout=20),
            f"{host} refuses",
        )


def test_names(echoes):
    echoes.apply(
        service("echo", {"name": "web", "port": 80, "targetPort": 8080}),
        service("headless", {"name": "web", "port": 8080}, clusterIP="None", selector={"app": "echo"}),
        {
            **service("far", 80, type="ExternalName", externalName="echo"),
            "spec": {"type": "ExternalName", "externalName": f"echo.{echoes.namespace}.svc.cluster.local"},
        },
    )
    address = echoes.path("service echo", ".spec.clusterIP")
    full = f"{echoes.namespace}.svc.cluster.local"
    assert address in lookup(echoes, f"echo.{full}")
    pods = set(echoes.path("pods -l app=echo", ".items[*].status.podIP").split())
    until(
        lambda: pods <= set(lookup(echoes, f"headless.{full}").split()), "the headless Service has all pods' addresses"
    )
    assert f"echo.{full}" in lookup(echoes, f"far.{full}")
    assert "version=1" in echoes.sh("client", f"wget -qO- http://echo.{echoes.namespace}/")
    (one, *_) = pods
    assert one in lookup(echoes, f"{one.replace('.', '-')}.{echoes.namespace}.pod.cluster.local")
    assert "NXDOMAIN" in lookup(echoes, f"nothing.{full}")
    assert "10.96.0.1" in lookup(echoes, "kubernetes.default.svc.cluster.local")
    assert address in lookup(echoes, address) or f"echo.{full}" in lookup(echoes, address)


def lookup(kube, name):
    return kube.sh("client", f"nslookup {name} 2>&1 || true")


def test_session_affinity(echoes):
    echoes.apply(service("echo", {"port": 80, "targetPort": 8080}, sessionAffinity="ClientIP"))
    address = echoes.path("service echo", ".spec.clusterIP")
    until(
        lambda: "version" in echoes.sh("client", f"timeout 2 wget -qO- http://{address}/ || true"),
        "the Service answers",
    )
    assert len(hosts(echoes, f"http://{address}/")) == 1


def test_host_network_and_host_ports(cluster, kube):
    kube.apply(
        pod("open", container("echo:1", env=[{"name": "PORT", "value": "18080"}]), hostNetwork=True),
        pod("mapped", container("echo:1", ports=[{"containerPort": 8080, "hostPort": 18081}])),
    )
    kube.wait("pods --all", "condition=Ready")
    assert "version=1" in until(lambda: get(cluster.ip(), 18080), "the host network's port answers")
    assert "host=mapped" in until(lambda: get(cluster.ip(), 18081), "the host port answers")
    kube.apply(pod("second", container("echo:1", ports=[{"containerPort": 8080, "hostPort": 18081}])))
    until(lambda: "FailedScheduling" in dict(kube.events("second")), "an event says why it waits")
    message = dict(kube.events("second"))["FailedScheduling"]
    assert "1 node(s) didn't have free ports for the requested pod ports" in message


def test_a_pod_reaches_the_api(kube):
    kube.apply(pod("client", container("curl", "sleep inf")))
    kube.wait("pod client", "condition=Ready")
    version = kube.sh("client", "curl -sSk https://kubernetes.default/version")
    assert '"gitVersion"' in version
