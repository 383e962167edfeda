"""The server is killed again and again: what it acknowledged is kept, and containers don't notice."""

import http.client
import json
import os
import random
import signal
import threading

import pytest
from load import Client
from manifests import READY, container, deployment, once, pod, service
from test_kubectl import get
from wait import until

KILLS = 20
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def doomed(new_cluster, mirror):
    cluster = new_cluster("crash")
    cluster.start(*mirror)
    return cluster


class Writer(threading.Thread):
    """Creates one object after the other and counts in another one; notes what the server acknowledged."""

    def __init__(self, cluster, name):
        super().__init__(daemon=True)
        self.host, self.context = cluster.api()
        self.name, self.stopping, self.connection = name, threading.Event(), None
        self.created, self.counted, self.unanswered = set(), 0, 0

    def run(self):
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                self.write("POST", CONFIG_MAPS, config_map(f"{self.name}-{number}"))
                self.created.add(f"{self.name}-{number}")
                self.write("PATCH", f"{CONFIG_MAPS}/{self.name}", {"data": {"count": str(number)}})
                self.counted = number
            except (OSError, http.client.HTTPException):
                self.unanswered += 1
                self.connection = None
                self.stopping.wait(0.02)

    def write(self, method, path, body):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.host, timeout=5, context=self.context)
        kind = {"POST": "application/json", "PATCH": "application/merge-patch+json"}[method]
        self.connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status not in (200, 201):
            raise OSError(text)

    def stop(self):
        self.stopping.set()
        self.join()


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"count": "0"}}


def kill(cluster, pid):
    """Kills the server; returns the next one's number."""
    os.kill(pid, signal.SIGKILL)
    return until(lambda: (next_pid := cluster.server_pid()) != pid and next_pid, "the server is started again")


def containers(kube):
    """Identities and restarts of all containers."""
    return sorted(
        (status["containerID"], status["restartCount"])
        for each in kube.get("pods")
        for status in each["status"]["containerStatuses"]
    )


@pytest.mark.timeout(600)
def test_kills_under_load(doomed):
    kube = doomed.kubectl
    talk = 'i=0; while true; do i=$((i + 1)); echo "line $i"; sleep 0.05; done'
    kube.apply(
        deployment("echo", container("echo:1", readinessProbe=READY), replicas=3),
        service("echo", {"port": 80, "targetPort": 8080}, type="NodePort"),
        pod("talker", container(script=talk)),
    )
    kube.rolled_out("deployment/echo")
    kube.wait("pod talker", "condition=Ready")
    port = int(kube.path("service echo", ".spec.ports[0].nodePort"))
    until(lambda: get(doomed.ip(), port), "the NodePort answers")
    before = containers(kube)

    writers = [Writer(doomed, f"writer-{i}") for i in range(3)]
    kube.create(*(config_map(writer.name) for writer in writers))
    for writer in writers:
        writer.start()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    pid = doomed.server_pid()
    for _ in range(KILLS):
        threading.Event().wait(moments.uniform(0, 1.5))
        pid = kill(doomed, pid)
    until(lambda: kube("get", "--raw", "/readyz") == "ok", "the API is ready again")
    for writer in writers:
        writer.stop()

    stored = {item["metadata"]["name"]: item["data"] for item in kube.get("configmaps") if "data" in item}
    for writer in writers:
        assert writer.unanswered and len(writer.created) > KILLS
        assert writer.created - set(stored) == set()
        assert int(stored[writer.name]["count"]) >= writer.counted
    kube.rolled_out("deployment/echo")
    assert containers(kube) == before
    lines = [int(line.split()[1]) for line in kube("logs", "talker").splitlines()]
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > KILLS
    assert kube.sh("talker", "echo still reached") == "still reached\n"


def test_traffic_goes_on_while_the_server_is_away(doomed):
    kube = doomed.kubectl
    kube.apply(
        deployment("steady", container("echo:1", readinessProbe=READY), replicas=2),
        service("steady", {"port": 80, "targetPort": 8080}, type="NodePort"),
    )
    kube.rolled_out("deployment/steady")
    port = int(kube.path("service steady", ".spec.ports[0].nodePort"))
    until(lambda: get(doomed.ip(), port), "the NodePort answers")
    clients = [Client(doomed.ip(), port, kept) for kept in [True, False]]
    for client in clients:
        client.start()
    pid = doomed.server_pid()
    for _ in range(3):
        pid = kill(doomed, pid)
        until(lambda: kube("get", "--raw", "/readyz") == "ok", "the API is ready again")
        kube.rolled_out("deployment/steady")
    for client in clients:
        client.stop()
    assert [client.failures for client in clients] == [[], []]


def killed_and_back(cluster):
    """Kills the server and waits for the next one, node and all."""
    kill(cluster, cluster.server_pid())
    until(lambda: cluster.kubectl("get", "--raw", "/readyz") == "ok", "the API is ready again")
    until(lambda: cluster.kubectl.sh("watched", "true") == "", "the kubelet answers again")


def ready_if(path, **more):
    return {"readinessProbe": {"exec": {"command": ["test", "-e", path]}, "periodSeconds": 1, **more}}


def test_a_kill_changes_nothing_that_is_told_of_pods(doomed):
    """Nothing is written of a pod that goes on as it was; its probes and its restarts go on too."""
    kube = doomed.kubectl
    sleep, mounts = "trap exit TERM; sleep inf & wait", [{"name": "v", "mountPath": "/v"}]
    kube.apply(
        pod("watched", container(script=f"touch /tmp/up; {sleep}", **ready_if("/tmp/up", failureThreshold=1))),
        pod(
            "staged",
            container(script=sleep),
            initContainers=[
                container(script="true", name="first"),
                container(
                    script=f"touch /tmp/up; {sleep}",
                    name="side",
                    restartPolicy="Always",
                    startupProbe=ready_if("/tmp/up")["readinessProbe"],
                ),
            ],
        ),
        pod(
            "again",
            container(script=f"test -e /v/x && {{ {sleep}; }}; touch /v/x; exit 1", volumeMounts=mounts),
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
        once("over", "exit 3"),
    )
    names = ["watched", "staged", "again"]
    for name in names:
        kube.wait(f"pod {name}", "condition=Ready")
    kube.wait("pod over", ".status.phase=Failed")
    look = lambda: {name: kube.get("pod", name) for name in [*names, "over"]}  # noqa: E731
    before = look()
    for _ in range(3):
        killed_and_back(doomed)
        # Two rounds of each probe.
        threading.Event().wait(2.5)
        assert look() == before
    kube.sh("watched", "rm /tmp/up")
    kube.wait("pod watched", "condition=Ready=False", timeout=15)
    kube.sh("staged", "kill 1", "-c", "side")
    kube.wait("pod staged", ".status.initContainerStatuses[1].restartCount=1")


def test_pods_that_were_ending_when_the_server_died_are_gone(doomed):
    kube = doomed.kubectl
    slow = container(script="trap 'sleep 3; exit' TERM; sleep inf & wait")
    kube.apply(pod("slow", slow, terminationGracePeriodSeconds=30), pod("forced", slow, terminationGracePeriodSeconds=5))
    made = {}
    for name in ["slow", "forced"]:
        kube.wait(f"pod {name}", "condition=Ready")
        made[name] = kube.get("pod", name)
    kube("delete", "pod", "slow", "--wait=false")
    # The API server forgets it at once; its containers have not ended when the kubelet is gone.
    kube("delete", "pod", "forced", "--force", "--grace-period=0", "--wait=false")
    kill(doomed, doomed.server_pid())
    until(lambda: kube("get", "--raw", "/readyz") == "ok", "the API is ready again")
    kube.wait("pod slow", "delete", timeout=30)
    until(lambda: [doomed.traces(each) for each in made.values()] == [[], []], "nothing of them is left")


def test_pods_start_again_with_their_machine(doomed):
    """A stop and a start are to pods as a reboot: as many of their containers start again as their policies say."""
    kube = doomed.kubectl
    sleep = "trap exit TERM; sleep inf & wait"
    kube.apply(
        pod("keeps", container(script=sleep), initContainers=[container(script="echo again", name="first")]),
        once("ends", sleep),
        once("over", "exit 3"),
    )
    for name in ["keeps", "ends"]:
        kube.wait(f"pod {name}", "condition=Ready")
    kube.wait("pod over", ".status.phase=Failed")
    before = {name: kube.get("pod", name) for name in ["keeps", "ends", "over"]}
    doomed.tug("stop")
    doomed.start()
    kube.wait("pod keeps", ".status.containerStatuses[0].restartCount=1")
    kube.wait("pod keeps", "condition=Ready")
    kube.wait("pod ends", ".status.phase=Failed")
    keeps = kube.get("pod", "keeps")
    assert keeps["metadata"]["uid"] == before["keeps"]["metadata"]["uid"]
    assert keeps["status"]["startTime"] == before["keeps"]["status"]["startTime"]
    assert keeps["status"]["initContainerStatuses"][0]["restartCount"] == 1
    main = keeps["status"]["containerStatuses"][0]
    earlier = before["keeps"]["status"]["containerStatuses"][0]["containerID"]
    assert main["lastState"]["terminated"]["containerID"] == earlier != main["containerID"]
    assert kube.get("pod", "ends")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert kube.get("pod", "over")["status"] == before["over"]["status"]
    kube("delete", "pod", "keeps", "ends", "over")
    assert [doomed.traces(each) for each in before.values()] == [[], [], []]


def test_an_exit_while_the_server_is_away_is_told(doomed, tmp_path):
    """Its code, and its last words in the log."""
    kube = doomed.kubectl
    volume = {"volumes": [{"name": "v", "hostPath": {"path": str(tmp_path)}}]}
    script = "until test -e /v/end; do sleep 0.05; done; echo last words; touch /v/ended; exit 7"
    leaver = once("leaver", script, **volume)
    leaver["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    kube.apply(leaver)
    kube.wait("pod leaver", "condition=Ready")
    pid = doomed.server_pid()
    os.kill(pid, signal.SIGSTOP)
    (tmp_path / "end").touch()
    until(lambda: (tmp_path / "ended").exists(), "the container ends")
    kill(doomed, pid)
    until(lambda: kube("get", "--raw", "/readyz") == "ok", "the API is ready again")
    kube.wait("pod leaver", ".status.phase=Failed")
    assert kube.path("pod leaver", ".status.containerStatuses[0].state.terminated.exitCode") == "7"
    assert kube("logs", "leaver") == "last words\n"


def test_a_start_cut_off_at_any_moment_ends_well(doomed):
    """Killed in the middle of making pods, the next server makes the rest of them, and none twice."""
    kube = doomed.kubectl
    kube.apply(deployment("many", container("echo:1"), replicas=8))
    moments = random.Random(4)
    pid = doomed.server_pid()
    for _ in range(5):
        threading.Event().wait(moments.uniform(0, 0.4))
        pid = kill(doomed, pid)
    until(lambda: kube("get", "--raw", "/readyz") == "ok", "the API is ready again")
    kube.rolled_out("deployment/many")
    assert len(kube.get("pods", "-l", "app=many")) == 8
    kube("delete", "deployment", "many")
    until(lambda: kube.get("pods", "-l", "app=many") == [], "all of them go")
