"""A rolling update under steady load: no request fails, over new connections and over kept ones."""

import json

import pytest
from load import Client
from manifests import READY, container, deployment, service
from test_kubectl import get
from wait import until


@pytest.fixture
def served(cluster, kube):
    """Address and port of a Service of three pods of the first version."""
    kube.apply(
        deployment(
            "echo", container("echo:1", readinessProbe=READY), replicas=3, spec={"terminationGracePeriodSeconds": 30}
        ),
        service("echo", {"port": 80, "targetPort": 8080}, type="NodePort"),
    )
    kube.rolled_out("deployment/echo")
    port = int(kube.path("service echo", ".spec.ports[0].nodePort"))
    until(lambda: get(cluster.ip(), port), "the NodePort answers")
    return cluster.ip(), port


def test_no_request_fails_in_a_rolling_update(kube, served):
    clients = [Client(*served, kept) for kept in [True, True, False, False]]
    for client in clients:
        client.start()
    for image in ["echo:2", "echo:1", "echo:2"]:
        kube("set", "image", "deployment", "echo", f"main={image}")
        kube.rolled_out("deployment/echo")
    kube.wait("deployment echo", ".status.replicas=3")
    until(lambda: len(kube.get("pods", "-l", "app=echo")) == 3, "the old pods are gone")
    answers = [client.stop() for client in clients]
    assert [client.failures for client in clients] == [[], [], [], []]
    for seen in answers:
        assert set(seen) == {"version=1", "version=2"} and sum(seen.values()) > 100


def test_no_request_fails_while_scaling(kube, served):
    clients = [Client(*served, kept) for kept in [True, False]]
    for client in clients:
        client.start()
    for replicas in [6, 1, 4]:
        kube("scale", "deployment", "echo", f"--replicas={replicas}")
        kube.rolled_out("deployment/echo")
        until(lambda: len(kube.get("pods", "-l", "app=echo")) == replicas, f"{replicas} pods are there")  # noqa: B023
    for client in clients:
        client.stop()
    assert [client.failures for client in clients] == [[], []]


def test_the_limits_of_a_rolling_update_are_kept(kube):
    """maxSurge and maxUnavailable, at every moment of a watch."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    kube.apply(deployment("echo", container("echo:1", readinessProbe=READY), replicas=4, strategy=strategy))
    kube.rolled_out("deployment/echo")
    columns = "custom-columns=ALL:.status.replicas,AVAILABLE:.status.availableReplicas,NEW:.status.updatedReplicas"
    watcher = kube.begin("get", "deployment", "echo", "-w", "-o", columns, "--no-headers")
    assert watcher.stdout.readline().split() == ["4", "4", "4"]
    kube("set", "image", "deployment", "echo", "main=echo:2")
    while True:
        every, available, new = watcher.stdout.readline().split()
        assert int(every) <= 5 and int(available) >= 4
        if (every, available, new) == ("4", "4", "4"):
            break
    watcher.terminate()
    watcher.wait()


def test_recreate(kube):
    """No pod of the new version before the last of the old has ended (upstream's `oldPodsRunning` counts none in a phase
    that is the last)."""
    kube.apply(deployment("echo", container("echo:1"), replicas=2, strategy={"type": "Recreate"}))
    kube.rolled_out("deployment/echo")
    watcher = kube.begin("get", "--raw", f"/api/v1/namespaces/{kube.namespace}/pods?watch=true")
    kube("set", "image", "deployment", "echo", "main=echo:2")
    living = {}
    for line in watcher.stdout:
        event = json.loads(line)
        name = event["object"]["metadata"]["name"]
        living[name] = event["object"]["spec"]["containers"][0]["image"]
        if event["type"] == "DELETED" or event["object"]["status"]["phase"] in ("Succeeded", "Failed"):
            del living[name]
        if "echo:2" in living.values():
            assert set(living.values()) == {"echo:2"}
            break
    watcher.terminate()
    watcher.wait()
    kube.rolled_out("deployment/echo")
