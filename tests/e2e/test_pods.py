"""What a pod asks for, it gets; what can't be had, it is told."""

import base64
import json
import re

import pytest
from manifests import READY, config_map, container, once, pod, secret, sleeper
from registry import PASSWORD, USER, Registry
from wait import until


def output(kube, name):
    """What a pod printed that ran to its good end."""
    kube.wait(f"pod {name}", ".status.phase=Succeeded")
    return kube("logs", name)


def test_init_containers_run_in_order_before_the_others(kube):
    shared = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    kube.apply(
        pod(
            "staged",
            container(script="cat /data/log", **shared),
            initContainers=[
                container(script="echo first >> /data/log", name="one", **shared),
                container(script="sleep 1; echo second >> /data/log", name="two", **shared),
            ],
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    assert output(kube, "staged") == "first\nsecond\n"


def test_an_init_container_that_fails_holds_the_pod(kube):
    kube.apply(pod("held", container(script="sleep inf"), initContainers=[container(script="exit 3", name="bad")]))
    until(
        lambda: kube("get", "pod", "held", "--no-headers").split()[2] in ("Init:Error", "Init:CrashLoopBackOff"),
        "the pod's status tells of the init container",
    )
    status = kube.get("pod", "held")["status"]
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert "ContainersNotInitialized" in [condition.get("reason") for condition in status["conditions"]]
    kube.apply(
        pod(
            "ends",
            container(script="sleep inf"),
            initContainers=[container(script="exit 3", name="bad")],
            restartPolicy="Never",
        )
    )
    kube.wait("pod ends", ".status.phase=Failed")
    assert kube("get", "pod", "ends", "--no-headers").split()[2] == "Init:Error"


def test_sidecars_start_first_and_end_last(kube):
    """An init container with `restartPolicy: Always`."""
    shared = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    kube.apply(
        pod(
            "pair",
            container(script="cat /data/up; nc localhost 8080 < /dev/null && echo reached", **shared),
            initContainers=[
                container(
                    "echo:1", name="side", restartPolicy="Always", startupProbe={**READY, "failureThreshold": 30}
                ),
                container(script="echo after the sidecar > /data/up", name="then", **shared),
            ],
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    kube.wait("pod pair", ".status.phase=Succeeded")
    assert kube("logs", "pair", "-c", "main").splitlines() == ["after the sidecar", "reached"]


def test_command_arguments_and_environment(cluster, kube):
    kube.apply(config_map("settings", COLOUR="green", SHAPE="round"), secret("keys", TOKEN="hush"))
    field = lambda path: {"valueFrom": {"fieldRef": {"fieldPath": path}}}  # noqa: E731
    kube.apply(
        pod(
            "told",
            {
                "name": "main",
                "image": "busybox",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c"],
                "args": ["echo '$(GREETING)'; echo '$$(GREETING)'; env"],
                "workingDir": "/tmp",
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}},
                "envFrom": [
                    {"configMapRef": {"name": "settings"}},
                    {"prefix": "K_", "secretRef": {"name": "keys"}},
                    {"configMapRef": {"name": "missing", "optional": True}},
                ],
                "env": [
                    {"name": "NAME", "value": "world"},
                    {"name": "GREETING", "value": "hello $(NAME) $(UNKNOWN)"},
                    {"name": "COLOUR", "value": "blue"},
                    {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "SHAPE"}}},
                    {"name": "TWO", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
                    {
                        "name": "NONE",
                        "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "a", "optional": True}},
                    },
                    {"name": "POD", **field("metadata.name")},
                    {"name": "NS", **field("metadata.namespace")},
                    {"name": "UID", **field("metadata.uid")},
                    {"name": "LABEL", **field("metadata.labels['app']")},
                    {"name": "NODE", **field("spec.nodeName")},
                    {"name": "ACCOUNT", **field("spec.serviceAccountName")},
                    {"name": "IP", **field("status.podIP")},
                    {"name": "HOST", **field("status.hostIP")},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                ],
            },
            restartPolicy="Never",
        )
    )
    first, second, *rest = output(kube, "told").splitlines()
    assert (first, second) == ("hello world $(UNKNOWN)", "$(GREETING)")
    seen = dict(line.split("=", 1) for line in rest)
    made = kube.get("pod", "told")
    expected = {
        "COLOUR": "blue",
        "SHAPE": "round",
        "K_TOKEN": "hush",
        "ONE": "round",
        "TWO": "hush",
        "PWD": "/tmp",
        "POD": "told",
        "NS": kube.namespace,
        "UID": made["metadata"]["uid"],
        "LABEL": "told",
        "NODE": cluster.name,
        "ACCOUNT": "default",
        "IP": made["status"]["podIP"],
        "HOST": cluster.ip(),
        "CPU": "500",
        "MEMORY": str(64 << 20),
        "HOSTNAME": "told",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "NONE" not in seen


def test_a_missing_config_map_is_named_and_waited_for(kube):
    kube.apply(
        once("eager", 'echo "$A"'),
        pod(
            "patient",
            container(script='echo "$A"', envFrom=[{"configMapRef": {"name": "late"}}]),
            restartPolicy="Never",
        ),
    )
    until(
        lambda: kube("get", "pod", "patient", "--no-headers").split()[2] == "CreateContainerConfigError",
        "the pod's status says so",
    )
    assert 'configmap "late" not found' in kube("get", "events")
    kube.apply(config_map("late", A="here now"))
    assert output(kube, "patient") == "here now\n"


def test_restart_with_back_off(kube):
    kube.apply(pod("crashes", container(script="echo about to; exit 4")))
    until(lambda: kube("get", "pod", "crashes", "--no-headers").split()[2] == "CrashLoopBackOff", "it backs off")
    status = kube.get("pod", "crashes")["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 4
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert re.match("back-off 10s restarting failed container=main pod=crashes_", status["state"]["waiting"]["message"])
    events = dict(kube.events("crashes"))
    assert events["BackOff"].startswith("Back-off restarting failed container main in pod crashes_")
    assert kube("logs", "crashes", "--previous") == kube("logs", "crashes") == "about to\n"
    kube.wait("pod crashes", ".status.containerStatuses[0].restartCount=2", timeout=40)


def test_a_containers_own_restart_rules(kube):
    """In a pod that never restarts, an exit code of the list does; the rest ends as the pod's policy says."""
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    mounts = [{"name": "data", "mountPath": "/data"}]
    script = "test -e /data/again && exit 3; touch /data/again; exit 42"
    ruled = container(script=script, volumeMounts=mounts, restartPolicy="Never", restartPolicyRules=rules)
    kube.apply(pod("ruled", ruled, restartPolicy="Never", volumes=[{"name": "data", "emptyDir": {}}]))
    kube.wait("pod ruled", ".status.phase=Failed")
    status = kube.get("pod", "ruled")["status"]["containerStatuses"][0]
    assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (1, 3)


@pytest.mark.parametrize(
    ("policy", "code", "phase", "shown"),
    [
        ("Never", 0, "Succeeded", "Completed"),
        ("Never", 1, "Failed", "Error"),
        ("OnFailure", 0, "Succeeded", "Completed"),
    ],
)
def test_restart_policies_that_let_a_pod_end(kube, policy, code, phase, shown):
    kube.apply(pod("ends", container(script=f"exit {code}"), restartPolicy=policy))
    kube.wait("pod ends", f".status.phase={phase}")
    assert kube("get", "pod", "ends", "--no-headers").split()[1:4] == ["0/1", shown, "0"]
    assert kube.path("pod ends", ".status.containerStatuses[0].state.terminated.exitCode") == str(code)


def test_an_image_that_is_not_there(kube):
    kube.apply(pod("wants", container("no-such-image:1")))
    until(lambda: kube("get", "pod", "wants", "--no-headers").split()[2] == "ImagePullBackOff", "it backs off")
    waiting = kube.get("pod", "wants")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["message"].startswith('Back-off pulling image "no-such-image:1"')
    messages = [message for _, message in kube.events("wants")]
    assert any(m.startswith('Failed to pull image "no-such-image:1"') for m in messages)
    assert "Error: ErrImagePull" in messages
    kube.apply(pod("never", container("no-such-image:2", imagePullPolicy="Never")))
    until(lambda: kube("get", "pod", "never", "--no-headers").split()[2] == "ErrImageNeverPull", "it isn't pulled")


def test_an_image_name_that_cannot_be_one(kube):
    kube.apply(pod("wrong", container("Not An Image")))
    until(lambda: kube("get", "pod", "wrong", "--no-headers").split()[2] == "InvalidImageName", "it can't be a name")
    told = (
        'Failed to apply default image tag "Not An Image": couldn\'t parse image name "Not An Image": '
        "invalid reference format: repository name (library/Not An Image) must be lowercase"
    )
    assert kube.path("pod wrong", ".status.containerStatuses[0].state.waiting.message") == told
    events = kube.events("wrong")
    assert ("InspectFailed", told) in events and ("Failed", "Error: InvalidImageName") in events
    assert "Pulling" not in dict(events)


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("private") / "registry", private=True)
    registry.push("busybox:latest", "tools/box:1")
    yield registry
    registry.close()


def test_image_pull_secrets(kube, private):
    image = f"{private.address}/tools/box:1"
    kube.apply(once("stranger", "echo in", image))
    until(
        lambda: kube("get", "pod", "stranger", "--no-headers").split()[2] in ("ErrImagePull", "ImagePullBackOff"),
        "the registry refuses strangers",
    )
    kube(
        "create",
        "secret",
        "docker-registry",
        "door",
        f"--docker-server={private.address}",
        f"--docker-username={USER}",
        f"--docker-password={PASSWORD}",
    )
    kube.apply(once("guest", "echo in", image, imagePullSecrets=[{"name": "door"}]))
    assert output(kube, "guest") == "in\n"
    kube("patch", "serviceaccount", "default", "-p", '{"imagePullSecrets": [{"name": "door"}]}')
    kube.apply({**once("resident", "echo in", image)})
    assert kube.path("pod resident", ".spec.imagePullSecrets[0].name") == "door"
    assert output(kube, "resident") == "in\n"


def test_pull_by_digest(kube, registry):
    digest = registry.push("busybox:latest", "library/pinned:1")
    kube.apply(once("exact", "echo exactly", f"pinned@{digest}"))
    assert output(kube, "exact") == "exactly\n"
    assert kube.path("pod exact", ".status.containerStatuses[0].imageID").endswith(digest)


def test_probes_decide_readiness(kube):
    kube.apply(
        pod("page", container("echo:1", readinessProbe={**READY, "failureThreshold": 1})),
        pod(
            "file",
            container(
                script="sleep inf",
                readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
            ),
        ),
        pod("port", container("redis", readinessProbe={"tcpSocket": {"port": 6379}, "periodSeconds": 1})),
        pod("closed", container(script="sleep inf", readinessProbe={"tcpSocket": {"port": 6379}, "periodSeconds": 1})),
    )
    kube.wait("pod page", "condition=Ready")
    kube.wait("pod port", "condition=Ready")
    kube.wait("pod file", ".status.containerStatuses[0].started=true")
    assert kube("get", "pod", "file", "--no-headers").split()[1:3] == ["0/1", "Running"]
    kube.sh("file", "touch /tmp/ready")
    kube.wait("pod file", "condition=Ready")
    kube.sh("file", "rm /tmp/ready")
    kube.wait("pod file", "condition=Ready=False")
    until(lambda: "Readiness probe failed" in kube("get", "events"), "an event tells of the probe")
    assert kube("get", "pod", "closed", "--no-headers").split()[1] == "0/1"
    assert kube.path("pod closed", ".status.conditions[?(@.type=='Ready')].reason") == "ContainersNotReady"


def test_a_liveness_probe_restarts(kube):
    alive = {"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 2}
    script = "trap exit TERM; sleep inf & wait"
    kube.apply(
        pod("lives", container(script=script, livenessProbe=alive)),
        pod("well", container(script=script, livenessProbe=alive)),
    )
    kube.wait("pod lives", "condition=Ready")
    kube.sh("lives", "touch /tmp/dead")
    kube.wait("pod lives", ".status.containerStatuses[0].restartCount=1")
    events = dict(kube.events("lives"))
    assert "Liveness probe failed" in events["Unhealthy"]
    assert events["Killing"] == "Container main failed liveness probe, will be restarted"
    assert kube.path("pod well", ".status.containerStatuses[0].restartCount") == "0"


def test_a_startup_probe_holds_the_others_back(kube):
    kube.apply(
        pod(
            "slow",
            container(
                script="sleep 3; touch /tmp/up; sleep inf",
                startupProbe={
                    "exec": {"command": ["test", "-e", "/tmp/up"]},
                    "periodSeconds": 1,
                    "failureThreshold": 30,
                },
                livenessProbe={
                    "exec": {"command": ["test", "-e", "/tmp/up"]},
                    "periodSeconds": 1,
                    "failureThreshold": 1,
                },
            ),
        )
    )
    kube.wait("pod slow", "condition=Ready")
    status = kube.get("pod", "slow")["status"]["containerStatuses"][0]
    assert (status["restartCount"], status["started"]) == (0, True)


def test_lifecycle_hooks(kube):
    mounts = [{"name": "data", "mountPath": "/data"}]
    kube.apply(
        pod(
            "hooked",
            container(
                script="trap 'echo stopping >> /data/log; exit' TERM; sleep inf & wait",
                lifecycle={
                    "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /data/log"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo before the stop >> /data/log"]}},
                },
                volumeMounts=mounts,
            ),
            volumes=[{"name": "data", "hostPath": {"path": f"/tmp/{kube.namespace}", "type": "DirectoryOrCreate"}}],
            terminationGracePeriodSeconds=20,
        ),
    )
    kube.wait("pod hooked", "condition=Ready")
    assert kube.sh("hooked", "cat /data/log") == "started\n"
    kube("delete", "pod", "hooked")
    kube.apply(
        once("reader", "cat /data/log", volumes=[{"name": "data", "hostPath": {"path": f"/tmp/{kube.namespace}"}}])
    )
    kube("delete", "pod", "reader")
    reader = once(
        "reader",
        "cat /data/log; rm -r /data/log",
        volumes=[{"name": "data", "hostPath": {"path": f"/tmp/{kube.namespace}"}}],
    )
    reader["spec"]["containers"][0]["volumeMounts"] = mounts
    kube.apply(reader)
    assert output(kube, "reader") == "started\nbefore the stop\nstopping\n"


def test_a_post_start_hook_that_fails_kills_the_container(kube):
    kube.apply(pod("bad", container(script="sleep inf", lifecycle={"postStart": {"exec": {"command": ["false"]}}})))
    until(lambda: "FailedPostStartHook" in dict(kube.events("bad")), "an event tells of the hook")


def test_graceful_termination(kube):
    """The stop signal first, the kill after the grace period, and the pod seen as Terminating meanwhile."""
    kube.apply(
        pod(
            "polite",
            container(script="trap 'sleep 2; exit 0' TERM; sleep inf & wait"),
            terminationGracePeriodSeconds=30,
        ),
        pod("deaf", container(script="trap '' TERM; while true; do sleep 1; done"), terminationGracePeriodSeconds=2),
    )
    kube.wait("pods --all", "condition=Ready")
    kube("delete", "pod", "polite", "--wait=false")
    assert kube("get", "pod", "polite", "--no-headers").split()[2] == "Terminating"
    kube.wait("pod polite", "delete", timeout=15)
    kube("delete", "pod", "deaf", timeout=20)
    kube.apply(
        pod("deaf", container(script="trap '' TERM; while true; do sleep 1; done"), terminationGracePeriodSeconds=600)
    )
    kube.wait("pod deaf", "condition=Ready")
    kube("delete", "pod", "deaf", "--grace-period=0", "--force", timeout=20)


def test_the_images_stop_signal(kube):
    """nginx's image asks for SIGQUIT, on which nginx finishes what it does."""
    kube.apply(pod("web", container("nginx"), terminationGracePeriodSeconds=60))
    kube.wait("pod web", "condition=Ready")
    kube("delete", "pod", "web", timeout=20)


def test_exit_codes_and_messages(kube):
    script = "echo why > /dev/termination-log; exit 9"
    kube.apply(
        once("file", script),
        pod(
            "log",
            container(script="echo from the log; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
            restartPolicy="Never",
        ),
    )
    ended = {}
    for name in ["file", "log"]:
        kube.wait(f"pod {name}", ".status.phase=Failed")
        ended[name] = kube.get("pod", name)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["file"]["exitCode"], ended["file"]["message"]) == (9, "why\n")
    assert (ended["log"]["exitCode"], ended["log"]["message"]) == (1, "from the log\n")


def test_limits_are_held(cluster, kube):
    limits = {"resources": {"limits": {"memory": "32Mi", "cpu": "100m"}, "requests": {"cpu": "50m"}}}
    hungry = container(script="head -c 200m /dev/zero | tail", **limits)
    kube.apply(
        pod("hungry", hungry, restartPolicy="Never"),
        sleeper("free"),
        pod("tight", container(script="sleep inf", **limits)),
    )
    kube.wait("pod hungry", ".status.phase=Failed")
    ended = kube.get("pod", "hungry")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    kube.wait("pod tight", "condition=Ready")
    read = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    memory, cpu = kube.sh("tight", read).split()[:2]
    assert (memory, cpu) == (str(32 << 20), "10000")
    quality = {name: kube.path(f"pod {name}", ".status.qosClass") for name in ["free", "tight"]}
    assert quality == {"free": "BestEffort", "tight": "Burstable"}
    # Pods that ask for nothing get what is left: the least share that cgroups v1, or v2, know.
    path = "/sys/fs/cgroup -path '*/kubepods/besteffort/cpu.{}' -exec cat {{}} +"
    assert cluster.ssh(f"find {path.format('shares')}; find {path.format('weight')}").split() in (["2"], ["1"])


def test_a_pods_mounts_are_there_once(cluster, kube):
    """The machine's own directories are bound over the host's: what is mounted in one doesn't show in the other."""
    kube.apply(sleeper("mounted"))
    kube.wait("pod mounted", "condition=Ready")
    points = [line.split()[1] for line in cluster.ssh("cat /proc/self/mounts").splitlines()]
    assert any(point.endswith("/merged") for point in points)
    assert [point for point in points if "/tug/machines/" in point] == []


def test_a_pod_that_came_past_the_scheduler_needs_room_too(cluster, kube):
    """Upstream's kubelet looks again, and says what the scheduler would have said."""
    ports = [{"containerPort": 80, "hostPort": 18080}]
    kube.apply(pod("first", container(script="sleep inf", ports=ports), nodeName=cluster.name))
    kube.wait("pod first", "condition=Ready")
    kube.apply(
        pod("big", container(script="sleep inf", resources={"requests": {"cpu": "1000"}}), nodeName=cluster.name),
        pod("second", container(script="sleep inf", ports=ports), nodeName=cluster.name),
    )
    told = {}
    for name in ["big", "second"]:
        kube.wait(f"pod {name}", ".status.phase=Failed")
        status = kube.get("pod", name)["status"]
        told[name] = status["reason"], status["message"]
        assert status["reason"] in dict(kube.events(name))
    reason, message = told["big"]
    assert reason == "OutOfcpu"
    assert re.fullmatch(
        r"Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: \d+, capacity: \d+000",
        message,
    )
    assert told["second"] == (
        "NodePorts",
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )


def test_nothing_is_left_of_a_pod(cluster, kube):
    whole, part = {"name": "memory", "mountPath": "/m"}, {"name": "memory", "mountPath": "/s", "subPath": "s"}
    again = "test -e /m/again && sleep inf; touch /m/again; exit 1"
    kube.apply(
        pod(
            "brief",
            container(script=again, volumeMounts=[whole, part]),
            initContainers=[container(script="true", name="first")],
            volumes=[{"name": "memory", "emptyDir": {"medium": "Memory"}}],
        )
    )
    kube.wait("pod brief", ".status.containerStatuses[0].restartCount=1")
    kube.wait("pod brief", "condition=Ready")
    brief = kube.get("pod", "brief")
    assert len(cluster.traces(brief)) > 10
    # The other end of its link, as the node numbers it; other tests' pods may be on their way out.
    peer = kube.sh("brief", "cat /sys/class/net/eth0/iflink").strip() + ":"
    links = lambda: cluster.ssh("ip -o link | cut -d ' ' -f 1").split()
    assert peer in links()
    kube("delete", "pod", "brief")
    assert cluster.traces(brief) == []
    assert peer not in links()


def test_a_pod_deleted_by_force_ends_at_once(cluster, kube):
    """However long it might take otherwise; its program ignores the signal."""
    kube.apply(pod("stubborn", container(script="trap '' TERM; sleep inf"), terminationGracePeriodSeconds=3600))
    kube.wait("pod stubborn", "condition=Ready")
    stubborn = kube.get("pod", "stubborn")
    assert cluster.traces(stubborn) != []
    kube("delete", "pod", "stubborn", "--force", "--grace-period=0")
    until(lambda: cluster.traces(stubborn) == [], "nothing is left of it")


def test_containers_of_a_pod_share_its_network(kube):
    kube.apply(
        pod(
            "pair",
            container("echo:1", name="server"),
            container(
                script="until wget -qO- http://localhost:8080/; do sleep 0.1; done; hostname; ip -4 -o addr show eth0",
                name="client",
            ),
            restartPolicy="Never",
        )
    )
    until(lambda: "eth0" in kube("logs", "pair", "-c", "client"), "the client has its answer")
    answer, host, link = kube("logs", "pair", "-c", "client").splitlines()[-3:]
    assert answer.startswith("version=1 host=pair GET / ") and host == "pair"
    assert kube.path("pod pair", ".status.podIP") in link


def test_hosts_file_host_name_and_aliases(kube):
    kube.apply(
        once(
            "named",
            "hostname; cat /etc/hosts; cat /etc/resolv.conf",
            hostname="ship",
            subdomain="fleet",
            hostAliases=[{"ip": "192.0.2.1", "hostnames": ["far", "away"]}],
        )
    )
    text = output(kube, "named")
    assert text.splitlines()[0] == "ship"
    address = kube.path("pod named", ".status.podIP")
    assert re.search(rf"^{re.escape(address)}\s+ship.fleet.{kube.namespace}.svc.cluster.local\s+ship$", text, re.M)
    assert re.search(r"^192.0.2.1\s+far\s+away$", text, re.M)
    assert "nameserver 10.96.0.10" in text
    assert f"search {kube.namespace}.svc.cluster.local svc.cluster.local cluster.local" in text
    assert "ndots:5" in text


def test_dns_policies(kube):
    kube.apply(
        once(
            "own",
            "cat /etc/resolv.conf",
            dnsPolicy="None",
            dnsConfig={
                "nameservers": ["192.0.2.53"],
                "searches": ["example.org"],
                "options": [{"name": "ndots", "value": "2"}],
            },
        ),
        once("more", "cat /etc/resolv.conf", dnsConfig={"searches": ["example.org"]}),
    )
    assert set(output(kube, "own").splitlines()) == {"nameserver 192.0.2.53", "search example.org", "options ndots:2"}
    assert "cluster.local example.org" in output(kube, "more")


def test_security_contexts(kube):
    script = "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>&1; touch /data/x && stat -c %g /data/x"
    mounts = [{"name": "data", "mountPath": "/data"}]
    kube.apply(
        pod(
            "bound",
            container(
                script=script,
                volumeMounts=mounts,
                securityContext={
                    "runAsGroup": 2000,
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            ),
            securityContext={
                "runAsUser": 1000,
                "fsGroup": 3000,
                "supplementalGroups": [4000],
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    user, group, groups, *rest = output(kube, "bound").splitlines()
    assert (user, group, set(groups.split())) == ("1000", "2000", {"2000", "3000", "4000"})
    status = dict(line.split(":\t") for line in rest[:3])
    assert status == {"CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert "Read-only file system" in rest[3]
    assert rest[4] == "3000"


def test_groups_that_only_the_image_knows_of(kube):
    """In the images' /etc/group, redis is one of the crew, 600."""
    ask = {"supplementalGroups": [4000]}
    kube.apply(
        once("merged", "id -G", "redis", securityContext=ask),
        once("strict", "id -G", "redis", securityContext={**ask, "supplementalGroupsPolicy": "Strict"}),
    )
    assert set(output(kube, "merged").split()) == {"101", "600", "4000"}
    assert set(output(kube, "strict").split()) == {"101", "4000"}


def test_a_seccomp_profile_that_is_not_there(kube):
    profile = {"type": "Localhost", "localhostProfile": "none.json"}
    kube.apply(pod("unsafe", container(script="sleep inf", securityContext={"seccompProfile": profile})))
    until(
        lambda: kube("get", "pod", "unsafe", "--no-headers").split()[2] == "CreateContainerError", "it can't be made"
    )
    message = kube.path("pod unsafe", ".status.containerStatuses[0].state.waiting.message")
    missing = r'cannot load seccomp profile "(.*)/none.json": open \1/none.json: no such file or directory'
    assert re.fullmatch(missing, message)


def test_default_and_added_capabilities(kube):
    read = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; ls /dev | wc -l"
    kube.apply(
        once("plain", read),
        pod(
            "more",
            container(script=read, securityContext={"capabilities": {"add": ["NET_ADMIN"], "drop": ["CHOWN"]}}),
            restartPolicy="Never",
        ),
        pod("all", container(script=read, securityContext={"privileged": True}), restartPolicy="Never"),
    )
    plain, more, all_ = (output(kube, name).split() for name in ["plain", "more", "all"])
    # Docker's default set: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
    # NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
    assert int(plain[1], 16) == 0xA80425FB
    assert int(more[1], 16) == (0xA80425FB | 1 << 12) & ~1
    assert bin(int(all_[1], 16)).count("1") >= 38
    assert int(all_[4]) > int(plain[4])


def test_the_users_of_images_and_pods(kube):
    kube.apply(
        once("image", "id -un", "redis"),
        once("pod", "id -u", "redis", securityContext={"runAsUser": 65534}),
        pod("root", container(script="id -u", securityContext={"runAsNonRoot": True})),
    )
    assert output(kube, "image") == "redis\n"
    assert output(kube, "pod") == "65534\n"
    until(
        lambda: kube("get", "pod", "root", "--no-headers").split()[2] == "CreateContainerConfigError", "root is refused"
    )
    message = kube.path("pod root", ".status.containerStatuses[0].state.waiting.message")
    assert message.startswith("container has runAsNonRoot and image will run as root")


def test_host_namespaces(cluster, kube):
    read = "for kind in net ipc pid; do readlink /proc/self/ns/$kind; done; hostname"
    kube.apply(once("apart", read), once("with", read, hostNetwork=True, hostPID=True, hostIPC=True))
    node = cluster.ssh(read).splitlines()
    assert output(kube, "with").splitlines() == node
    assert set(output(kube, "apart").splitlines()) & set(node) == set()
    assert kube.path("pod with", ".status.podIP") == cluster.ip()


def test_shared_process_namespace(kube):
    kube.apply(
        pod(
            "seen",
            container(script="sleep 12345"),
            container(script="sleep inf", name="peer"),
            shareProcessNamespace=True,
        )
    )
    kube.wait("pod seen", "condition=Ready")
    assert "sleep 12345" in kube.sh("seen", "ps", "-c", "peer")


def test_an_unsupported_field_refuses_the_pod_by_name(kube):
    kube.apply(
        pod(
            "odd",
            container(script="sleep inf", volumeMounts=[{"name": "far", "mountPath": "/far"}]),
            volumes=[{"name": "far", "nfs": {"server": "192.0.2.1", "path": "/"}}],
        )
    )
    event = until(
        lambda: [message for _, message in kube.events("odd") if "nfs" in message], "an event names the field"
    )
    assert "spec.volumes[0].nfs" in event[0]
    assert kube.path("pod odd", ".status.phase") in ("Pending", "Failed")


def test_the_service_accounts_token_opens_the_api(kube):
    kube.wait("serviceaccount default", "create")
    kube("create", "rolebinding", "sees", "--clusterrole=view", f"--serviceaccount={kube.namespace}:default")
    kube.apply(
        pod("inside", container("curl", "sleep inf")),
        pod("without", container("curl", "sleep inf"), automountServiceAccountToken=False),
    )
    kube.wait("pods --all", "condition=Ready")
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert kube.sh("inside", f"cat {folder}/namespace") == kube.namespace
    token = kube.sh("inside", f"cat {folder}/token")
    assert json.loads(decode_part(token.split(".")[1]))["sub"] == f"system:serviceaccount:{kube.namespace}:default"
    server = f"https://kubernetes.default.svc/api/v1/namespaces/{kube.namespace}"
    ask = f'curl -sS --cacert {folder}/ca.crt -H "Authorization: Bearer $(cat {folder}/token)" {server}'
    assert json.loads(kube.sh("inside", f"{ask}/pods"))["kind"] == "PodList"
    refusal = json.loads(kube.sh("inside", f"{ask}/secrets"))
    assert refusal["code"] == 403
    assert refusal["message"] == (
        f'secrets is forbidden: User "system:serviceaccount:{kube.namespace}:default" cannot list resource "secrets" '
        f'in API group "" in the namespace "{kube.namespace}"'
    )
    assert json.loads(kube.sh("without", f"curl -sSk {server}/pods"))["code"] in (401, 403)
    assert "No such file" in kube.sh("without", f"ls {folder} 2>&1 || true")


def decode_part(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
