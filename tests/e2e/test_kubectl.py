"""What a course on Kubernetes has its readers type, with the stock kubectl."""

import http.client
import json
import re

import kubectl
import pexpect
import pytest
from manifests import config_map, container, deployment, once, pod, sleeper
from wait import until


def names(objects):
    return sorted(item["metadata"]["name"] for item in objects)


def get(address, port, path="/"):
    """The body of a page."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, f"{answer.status} {body}"
        return body
    finally:
        connection.close()


def test_create_deployment(kube):
    assert kube("create", "deployment", "web", "--image=nginx", "--replicas=2") == "deployment.apps/web created\n"
    assert 'deployment "web" successfully rolled out' in kube.rolled_out("deployment/web")
    assert kube("get", "deployment", "web").split()[:5] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert kube("get", "deployment", "web", "--no-headers").split()[:4] == ["web", "2/2", "2", "2"]
    (replica_set,) = kube.get("replicasets", "-l", "app=web")
    assert replica_set["metadata"]["ownerReferences"][0]["name"] == "web"
    assert len(kube.get("pods", "-l", "app=web")) == 2


def test_expose_and_curl(cluster, kube):
    """From the host to the NodePort; from a pod to the Service's address and to its names."""
    kube("create", "deployment", "web", "--image=nginx")
    assert kube("expose", "deployment", "web", "--port=80", "--type=NodePort") == "service/web exposed\n"
    kube.apply(sleeper("client"))
    kube.rolled_out("deployment/web")
    kube.wait("pod client", "condition=Ready")
    port = int(kube.path("service web", ".spec.ports[0].nodePort"))
    assert 30000 <= port <= 32767
    assert "Welcome to nginx!" in until(lambda: get(cluster.ip(), port), "the NodePort answers")
    address = kube.path("service web", ".spec.clusterIP")
    for host in [address, "web", f"web.{kube.namespace}", f"web.{kube.namespace}.svc.cluster.local"]:
        assert "Welcome to nginx!" in kube.sh("client", f"timeout 5 wget -qO- http://{host}/"), host


def test_scale(kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube.rolled_out("deployment/web")
    assert kube("scale", "deployment", "web", "--replicas=4") == "deployment.apps/web scaled\n"
    kube.rolled_out("deployment/web")
    assert len(kube.get("pods", "-l", "app=web")) == 4
    kube("scale", "deployment", "web", "--replicas=1")
    kube.wait("deployment web", ".status.replicas=1")
    until(lambda: len(kube.get("pods", "-l", "app=web")) == 1, "one pod is left")
    refusal = kube.refused("scale", "deployment", "web", "--current-replicas=7", "--replicas=2")
    assert "Expected replicas to be 7, was 1" in refusal


def test_set_image_and_rollout(kube):
    kube("create", "deployment", "web", "--image=nginx:1.7.9")
    kube.rolled_out("deployment/web")
    assert (
        kube("set", "image", "deployment", "web", "nginx=nginx:1.8.1-alpine") == "deployment.apps/web image updated\n"
    )
    kube.rolled_out("deployment/web")
    history = kube("rollout", "history", "deployment", "web").split("\n")
    assert [line.split()[0] for line in history[1:] if line] == ["REVISION", "1", "2"]
    assert "nginx:1.7.9" in kube("rollout", "history", "deployment", "web", "--revision=1")
    assert kube("rollout", "undo", "deployment", "web") == "deployment.apps/web rolled back\n"
    kube.rolled_out("deployment/web")
    until(lambda: images_of(kube) == {"nginx:1.7.9"}, "the first image runs again, and only that")
    kube("rollout", "undo", "deployment", "web", "--to-revision=2")
    kube.rolled_out("deployment/web")
    until(lambda: images_of(kube) == {"nginx:1.8.1-alpine"}, "the second revision's image runs, and only that")


def images_of(kube):
    return set(kube.path("pods -l app=web", ".items[*].spec.containers[0].image").split())


def test_rollout_pause_resume_restart(kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube.rolled_out("deployment/web")
    (before,) = names(kube.get("pods"))
    kube("rollout", "pause", "deployment/web")
    kube("set", "env", "deployment/web", "A=b")
    assert kube.path("deployment web", ".spec.paused") == "true"
    assert names(kube.get("replicasets")) == [before.rsplit("-", 1)[0]]
    kube("rollout", "resume", "deployment/web")
    kube.rolled_out("deployment/web")
    (resumed,) = until(lambda: [n for n in [names(kube.get("pods"))] if len(n) == 1], "the old pod is gone")[0]
    assert resumed != before
    kube("rollout", "restart", "deployment/web")
    kube.rolled_out("deployment/web")
    until(lambda: resumed not in names(kube.get("pods")), "the pod before the restart is gone")


def test_a_rollout_that_cannot_succeed_keeps_the_old_pods(kube):
    kube("create", "deployment", "web", "--image=nginx", "--replicas=3")
    kube.rolled_out("deployment/web")
    kube("set", "image", "deployment", "web", "nginx=nginx:no-such-tag")
    until(lambda: "ImagePull" in kube("get", "pods"), "the new pod can't pull its image")
    assert kube.path("deployment web", ".status.availableReplicas") == "3"
    assert "timed out" in kube.refused("rollout", "status", "deployment/web", "--timeout=1s")
    kube("rollout", "undo", "deployment/web")
    kube.rolled_out("deployment/web")


def test_run(kube):
    assert kube("run", "web", "--image=nginx") == "pod/web created\n"
    kube.wait("pod web", "condition=Ready")
    columns = kube("get", "pod", "web", "--no-headers").split()
    assert columns[:4] == ["web", "1/1", "Running", "0"]
    output = kube("run", "hello", "--image=busybox", "--rm", "-i", "--restart=Never", "--", "echo", "Hello World")
    assert output.startswith("Hello World\n")
    kube("delete", "pod", "web")
    assert "not found" in kube.refused("get", "pod", "web")


def test_run_on_a_terminal_detach_and_attach(kube):
    screen = kube.terminal("run", "-it", "shell", "--image=busybox")
    screen.expect("/ # ", timeout=60)
    screen.send("echo $((40 + 2)) > /tmp/answer; tty\r")
    screen.expect("/dev/pts/0\r\n")
    screen.expect("/ # ")
    screen.send("\x10\x11")
    screen.expect("Session ended, resume using 'kubectl attach shell -c shell -n [a-z-]+ -i -t' command")
    screen.wait()
    screen = kube.terminal("attach", "shell", "-c", "shell", "-i", "-t")
    # The shell shows its prompt again: kubectl tells it the terminal's size.
    screen.expect("/ # ")
    screen.send("cat /tmp/answer\r")
    screen.expect("42\r\n")
    screen.send("exit\r")
    screen.expect(pexpect.EOF)
    screen.wait()
    kube.wait("pod shell", ".status.containerStatuses[0].restartCount=1")


def test_attach_shows_what_a_container_prints(kube):
    kube.apply(pod("reader", container(script='while read -r line; do echo "got $line"; done', stdin=True)))
    kube.wait("pod reader", "condition=Ready")
    screen = kube.terminal("attach", "-i", "reader")
    screen.send("one\n")
    screen.expect("got one")
    screen.send("two\n")
    screen.expect("got two")
    screen.close()
    assert kube("logs", "reader") == "got one\ngot two\n"
    # The end of what is typed ends the session, as with containerd; the container reads on.
    for line in ["three", "four"]:
        kube("attach", "-i", "reader", stdin=f"{line}\n", timeout=20)
        until(lambda: f"got {line}" in kube("logs", "reader"), "the container has read it")


def test_logs_follow(kube):
    script = 'i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); echo "line $i"; sleep 0.1; done; echo end'
    kube.apply(once("talker", script))
    kube.wait("pod talker", "condition=Ready")
    follower = kube.begin("logs", "-f", "talker")
    lines = [follower.stdout.readline().strip() for _ in range(20)]
    kube.sh("talker", "touch /tmp/stop")
    lines += follower.stdout.read().splitlines()
    assert follower.wait(30) == 0
    assert lines == [*(f"line {number}" for number in range(1, len(lines))), "end"]


def test_logs_options(kube):
    kube.apply(once("talker", "for i in 1 2 3 4 5; do echo line $i; done; echo problem >&2"))
    kube.wait("pod talker", ".status.phase=Succeeded")
    assert sorted(kube("logs", "talker").splitlines()) == [*(f"line {i}" for i in range(1, 6)), "problem"]
    assert len(kube("logs", "talker", "--tail=2").splitlines()) == 2
    stamped = kube("logs", "talker", "--timestamps", "--limit-bytes=30")
    assert len(stamped) == 30 and stamped[4] == "-" and stamped[10] == "T"
    assert kube("logs", "talker", "--since=1h").count("\n") == 6
    assert kube("logs", "-l", "app=talker", "--prefix").startswith("[pod/talker/main] ")
    message = "container nobody is not valid for pod talker"
    assert message in kube.refused("logs", "talker", "-c", "nobody")


def test_logs_of_the_previous_container(kube):
    kube.apply(
        pod(
            "again",
            container(
                script="echo run; test -e /data/once || { touch /data/once; exit 1; }; sleep inf",
                volumeMounts=[{"name": "data", "mountPath": "/data"}],
            ),
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    kube.wait("pod again", ".status.containerStatuses[0].restartCount=1")
    kube.wait("pod again", "condition=Ready")
    assert kube("logs", "again", "--previous") == "run\n"
    assert kube("logs", "again") == "run\n"


def test_exec(kube):
    kube.apply(sleeper("box"))
    kube.wait("pod box", "condition=Ready")
    assert kube("exec", "box", "--", "echo", "hello") == "hello\n"
    assert kube("exec", "-i", "box", "--", "cat", stdin="in and out\n") == "in and out\n"
    big = "x" * 1_000_000 + "\n"
    assert kube("exec", "-i", "box", "--", "cat", stdin=big) == big
    with pytest.raises(kubectl.Failed) as failed:
        kube.sh("box", "echo out; echo err >&2; exit 7")
    assert (failed.value.code, failed.value.stdout) == (7, "out\n")
    assert failed.value.stderr == "err\ncommand terminated with exit code 7\n"
    assert "executable file not found" in kube.refused("exec", "box", "--", "no-such-program")
    # A command that ends while input is still on its way: its exit code arrives, whatever nobody read.
    for code in range(1, 10):
        with pytest.raises(kubectl.Failed) as failed:
            kube("exec", "-i", "box", "--", "sh", "-c", f"head -c 5; exit {code}", stdin=big)
        assert (failed.value.code, failed.value.stdout) == (code, "xxxxx")


def test_exec_on_a_terminal(kube):
    kube.apply(sleeper("box"))
    kube.wait("pod box", "condition=Ready")
    screen = kube.terminal("exec", "-it", "box", "--", "sh")
    screen.expect("/ # ")
    screen.send("tty; stty size\r")
    screen.expect("/dev/pts/[0-9]+\r\n40 120\r\n")
    screen.setwinsize(50, 100)
    until(lambda: resized(screen), "the terminal follows the window's size")
    screen.send("sleep 1000\r")
    screen.send("\x03")
    screen.expect("/ # ")
    screen.send("exit 5\r")
    screen.expect(pexpect.EOF)
    screen.wait()
    assert screen.exitstatus == 5


def resized(screen):
    screen.send("stty size\r")
    screen.expect(r"(\d+ \d+)\r\n")
    return screen.match.group(1) == "50 100"


def debuggers(kube, name):
    """States of the containers that were added to a pod, by name."""
    statuses = kube.get("pod", name)["status"].get("ephemeralContainerStatuses", [])
    return {status["name"]: status["state"] for status in statuses}


def test_debug_on_a_terminal(kube):
    kube.apply(pod("shop", container(script="sleep 12345")))
    kube.wait("pod shop", "condition=Ready")
    screen = kube.terminal("debug", "-it", "shop", "--image=busybox", "--target=main", "-c", "look", "--", "sh")
    screen.expect("/ # ", timeout=60)
    screen.send("ps; hostname; tty\r")
    # The target's processes, in the pod's host name and network, on a terminal of its own.
    screen.expect("sleep 12345\r\n")
    screen.expect("shop\r\n/dev/pts/0\r\n")
    screen.send("exit 3\r")
    screen.expect(pexpect.EOF)
    screen.wait()
    ended = until(lambda: debuggers(kube, "shop")["look"].get("terminated"), "its end is told")
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    # Another one changes nothing for the first, nor for the pod.
    kube("debug", "shop", "--image=busybox", "-c", "second", "--", "sh", "-c", "echo seen; exec sleep inf")
    until(lambda: "running" in debuggers(kube, "shop")["second"], "the second runs")
    assert kube("logs", "shop", "-c", "second") == "seen\n"
    assert kube("exec", "shop", "-c", "second", "--", "cat", "/proc/1/cmdline") == "sleep\0inf\0"
    assert debuggers(kube, "shop")["look"]["terminated"] == ended
    assert kube("get", "pod", "shop", "--no-headers").split()[1:4] == ["1/1", "Running", "0"]
    events = kube.get("events", "--field-selector=involvedObject.fieldPath=spec.ephemeralContainers{look}")
    assert {"Created", "Started"} <= {event["reason"] for event in events}
    kube("delete", "pod", "shop")


def test_debuggers_end_with_their_pod(kube):
    kube.apply(once("brief", "while [ ! -e /tmp/end ]; do sleep 0.1; done"))
    kube.wait("pod brief", "condition=Ready")
    kube("debug", "brief", "--image=busybox", "-c", "lasting", "--", "sleep", "inf")
    until(lambda: "running" in debuggers(kube, "brief")["lasting"], "it runs")
    kube("debug", "brief", "--image=nowhere/none", "-c", "absent")
    until(lambda: "ImagePullBackOff" in str(debuggers(kube, "brief")["absent"]), "its image can't be had")
    kube.sh("brief", "touch /tmp/end", "-c", "main")
    kube.wait("pod brief", ".status.phase=Succeeded")
    assert debuggers(kube, "brief")["lasting"]["terminated"]["exitCode"] == 137


def test_copy(kube, tmp_path):
    kube.apply(sleeper("box"))
    kube.wait("pod box", "condition=Ready")
    (tmp_path / "there").write_text("some text\n")
    kube("cp", tmp_path / "there", "box:/tmp/here")
    assert kube.sh("box", "cat /tmp/here") == "some text\n"
    kube("cp", "box:/tmp/here", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "some text\n"


def test_describe(cluster, kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube("expose", "deployment", "web", "--port=80")
    kube.rolled_out("deployment/web")
    (name,) = names(kube.get("pods"))
    text = kube("describe", "pod", name)
    for part in ["Status:           Running", "Controlled By:  ReplicaSet/web-", "Image:          nginx", "Started"]:
        assert part in text, part
    reasons = [reason for reason, _ in kube.events(name)]
    assert [r for r in ["Scheduled", "Pulling", "Pulled", "Created", "Started"] if r not in reasons] == []
    text = kube("describe", "deployment", "web")
    assert "Scaled up replica set web-" in text and "StrategyType:           RollingUpdate" in text
    address = kube.path(f"pod {name}", ".status.podIP")
    assert f"{address}:80" in kube("describe", "service", "web")
    text = kube("describe", "node", cluster.name)
    for part in ["Roles:              control-plane", "Taints:             <none>", f"{kube.namespace}", "Ready  "]:
        assert part in text, part
    assert "Status:       Active" in kube("describe", "namespace", kube.namespace)


def test_edit(kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube.env = {**kube.env, "KUBE_EDITOR": "sed -i s/replicas:.1/replicas:\\ 2/"}
    assert kube("edit", "deployment", "web") == "deployment.apps/web edited\n"
    kube.rolled_out("deployment/web")
    assert kube.path("deployment web", ".status.readyReplicas") == "2"


def test_a_pod_that_loses_its_label_is_replaced(kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube.rolled_out("deployment/web")
    (first,) = names(kube.get("pods"))
    assert kube("label", "pod", first, "app-") == f"pod/{first} unlabeled\n"
    until(lambda: len(kube.get("pods", "-l", "app=web")) == 1, "a replacement is made")
    kube.rolled_out("deployment/web")
    assert len(kube.get("pods")) == 2
    assert not kube.get("pod", first)["metadata"].get("ownerReferences")
    kube("label", "pod", first, "foo=bar")
    assert names(kube.get("pods", "-l", "foo=bar")) == [first]
    assert names(kube.get("pods", "-l", "foo notin (bar)")) != [first]
    assert "LABELS" in kube("get", "pods", "--show-labels") and "foo=bar" in kube("get", "pods", "--show-labels")
    assert kube("get", "pods", "-L", "foo").splitlines()[0].split()[-1] == "FOO"
    assert "already has a value" in kube.refused("label", "pod", first, "foo=baz")
    kube("annotate", "pod", first, "note=this")
    assert kube.path(f"pod {first}", ".metadata.annotations.note") == "this"


def test_what_is_deleted_of_a_deployment_comes_back(kube):
    kube("create", "deployment", "web", "--image=nginx")
    kube.rolled_out("deployment/web")
    (replica_set,) = names(kube.get("rs"))
    kube("scale", "rs", replica_set, "--replicas=3")
    until(lambda: kube.path(f"rs {replica_set}", ".spec.replicas") == "1", "the deployment puts it right")
    before = kube.path(f"rs {replica_set}", ".metadata.uid")
    kube("delete", "rs", replica_set)
    until(lambda: kube.path(f"rs {replica_set}", ".metadata.uid") != before, "the replica set is made again")
    kube.rolled_out("deployment/web")
    kube("delete", "deployment", "web")
    until(lambda: kube.get("rs,pods") == [], "its replica sets and pods go with it")


def test_namespaces(cluster, kube):
    assert {"default", "kube-node-lease", "kube-public", "kube-system"} <= set(names(kube.get("ns")))
    name = f"{kube.namespace}-other"
    assert kube("create", "ns", name) == f"namespace/{name} created\n"
    other = kube.within(name)
    other("create", "configmap", "it", "--from-literal=a=b")
    other("create", "deployment", "web", "--image=nginx")
    other.rolled_out("deployment/web")
    other.wait("serviceaccount default", "create")
    assert "kube-root-ca.crt" in names(other.get("configmaps"))
    assert kube("delete", "ns", name, timeout=60).startswith(f'namespace "{name}" deleted')
    assert "not found" in kube.refused("get", "ns", name)
    assert f'namespaces "{name}" not found' in other.refused("create", "configmap", "late")
    assert name not in {item["metadata"]["namespace"] for item in kube.get("pods", "-A")}
    refusal = kube.refused("delete", "ns", "kube-system")
    assert 'namespaces "kube-system" is forbidden: this namespace may not be deleted' in refusal


def test_apply_diff_delete(kube, tmp_path):
    file = tmp_path / "web.json"
    before = deployment(
        "web",
        container("nginx", name="web", ports=[{"containerPort": 80}, {"containerPort": 81}]),
        container(script="sleep inf", name="aside"),
    )
    file.write_text(json.dumps(before))
    assert kube("apply", "-f", file) == "deployment.apps/web created\n"
    assert kube("apply", "-f", file) == "deployment.apps/web unchanged\n"
    assert kube("diff", "-f", file) == ""
    kube.rolled_out("deployment/web")

    # A container less, a port less, an image changed.
    after = deployment("web", container("nginx:1.7.9", name="web", ports=[{"containerPort": 80}]))
    file.write_text(json.dumps(after))
    with pytest.raises(kubectl.Failed) as differs:
        kube("diff", "-f", file)
    assert differs.value.code == 1
    removed = [line[1:].strip() for line in differs.value.stdout.splitlines() if line.startswith("-")]
    assert "name: aside" in removed and "- containerPort: 81" in removed and "- image: nginx" in removed
    assert kube("apply", "-f", file) == "deployment.apps/web configured\n"
    (left,) = kube.get("deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert (left["name"], left["image"]) == ("web", "nginx:1.7.9")
    assert left["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    kube.rolled_out("deployment/web")
    assert kube("delete", "-f", file).startswith('deployment.apps "web" deleted')
    assert "not found" in kube.refused("delete", "-f", file)


def test_apply_of_a_list(kube):
    """kubectl checks a List by itself, from the second version of OpenAPI."""
    both = {"apiVersion": "v1", "kind": "List", "items": [config_map("one", a="1"), config_map("two", b="2")]}
    assert kube("apply", "-f", "-", stdin=json.dumps(both)) == "configmap/one created\nconfigmap/two created\n"


def test_apply_keeps_what_others_set(kube):
    mine = {**config_map("shared", a="1", b="2")}
    kube.apply(mine)
    kube("patch", "configmap", "shared", "--type=merge", "-p", '{"data":{"theirs":"3"}}')
    kube.apply(config_map("shared", a="1"))
    assert kube.get("configmap", "shared")["data"] == {"a": "1", "theirs": "3"}


@pytest.mark.parametrize(
    ("kind", "patch", "path", "expected"),
    [
        (
            "strategic",
            {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.7.9"}]}}}},
            ".spec.template.spec.containers[*].image",
            "nginx:1.7.9 busybox",
        ),
        ("merge", {"spec": {"replicas": 0}}, ".spec.replicas", "0"),
        (
            "json",
            [{"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "redis"}],
            ".spec.template.spec.containers[*].image",
            "nginx redis",
        ),
    ],
)
def test_patch(kube, kind, patch, path, expected):
    kube.apply(
        deployment("web", container("nginx", name="web"), container(script="sleep inf", name="aside"), replicas=0)
    )
    assert kube("patch", "deployment", "web", f"--type={kind}", "-p", json.dumps(patch)).startswith(
        "deployment.apps/web"
    )
    assert kube.path("deployment web", path) == expected


def test_output_formats(kube):
    kube.apply(sleeper("box"))
    kube.wait("pod box", "condition=Ready")
    address = kube.path("pod box", ".status.podIP")
    assert kube("get", "pod", "box").splitlines()[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    wide = kube("get", "pod", "box", "-o", "wide").splitlines()
    assert wide[0].split()[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert address in wide[1].split()
    assert json.loads(kube("get", "pod", "box", "-o", "json"))["status"]["phase"] == "Running"
    assert "phase: Running\n" in kube("get", "pod", "box", "-o", "yaml")
    assert kube("get", "pod", "box", "-o", "name") == "pod/box\n"
    assert kube("get", "pods", "-o", "jsonpath={.items[*].metadata.name}") == "box"
    columns = kube("get", "pods", "-o", "custom-columns=WHO:.metadata.name,IP:.status.podIP").split()
    assert columns == ["WHO", "IP", "box", address]
    assert kube("get", "pods", "-o", "go-template={{range .items}}{{.metadata.name}}{{end}}") == "box"
    assert kube("get", "pods", "--sort-by=.metadata.name", "--no-headers").split()[0] == "box"
    assert "box" in kube("get", "all") and "No resources found" not in kube("get", "all")


def test_get_watch(kube):
    watcher = kube.begin("get", "pods", "-w", "--no-headers", "--output-watch-events")
    kube.apply(once("short", "exit 0"))
    seen = []
    while "DELETED" not in seen:
        event, name, _, status, *_ = watcher.stdout.readline().split()
        assert name == "short"
        if status == "Completed" and status not in seen:
            kube("delete", "pod", "short", "--wait=false")
        seen.append(event if event == "DELETED" else status)
    watcher.terminate()
    watcher.wait()
    assert "Completed" in seen and seen[-1] == "DELETED"


def test_explain(kube):
    text = kube("explain", "pod.spec.containers")
    assert "KIND:       Pod" in text and "FIELD: containers <[]Container>" in text and "imagePullPolicy" in text
    text = kube("explain", "deployment.spec.strategy.rollingUpdate")
    assert "GROUP:      apps" in text and "maxSurge" in text
    assert 'field "nothing" does not exist' in kube.refused("explain", "pod.spec.nothing")


def test_wait(kube):
    kube.apply(once("job", "sleep 1; exit 0"))
    assert kube("wait", "pod/job", "--for=condition=Ready", "--timeout=60s") == "pod/job condition met\n"
    assert (
        kube("wait", "pod/job", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
        == "pod/job condition met\n"
    )
    assert "timed out waiting for the condition" in kube.refused(
        "wait", "pod/job", "--for=condition=Ready", "--timeout=1s"
    )
    waiter = kube.begin("wait", "pod/job", "--for=delete", "--timeout=60s")
    kube("delete", "pod", "job")
    assert waiter.wait(60) == 0


def test_events(kube):
    kube.apply(sleeper("box"))
    kube.wait("pod box", "condition=Ready")
    listed = kube("events", "--for", "pod/box")
    assert "Scheduled" in listed and f"Successfully assigned {kube.namespace}/box to" in listed
    assert "Started" in kube("get", "events", "--field-selector=involvedObject.name=box")
    reasons = [reason for reason, _ in kube.events("box")]
    assert reasons.index("Scheduled") < reasons.index("Created") < reasons.index("Started")


def test_look_around(cluster, kube):
    assert json.loads(kube("version", "-o", "json"))["serverVersion"]["minor"] == "36"
    assert "Kubernetes control plane is running at https://127.0.0.1:" in strip_colour(kube("cluster-info"))
    node = kube("get", "nodes", "--no-headers").split()
    assert node[:3] == [cluster.name, "Ready", "control-plane"] and node[4].startswith("v1.36.")
    resources = kube("api-resources", "--no-headers")
    assert {"deployments", "pods", "networkpolicies", "customresourcedefinitions"} <= {
        line.split()[0] for line in resources.splitlines()
    }
    assert "apps/v1" in kube("api-versions").split()
    assert kube("get", "--raw", "/healthz") == "ok"
    assert kube("get", "--raw", "/readyz") == "ok"
    assert {"/api/v1", "/apis/apps/v1", "/healthz", "/version"} <= set(json.loads(kube("get", "--raw", "/"))["paths"])
    assert kube("auth", "can-i", "delete", "nodes") == "yes\n"
    assert kube("get", "lease", "-n", "kube-node-lease", "-o", "name") == f"lease.coordination.k8s.io/{cluster.name}\n"


def strip_colour(text):
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def test_an_older_kubectl(cluster, kube):
    """Whatever kubectl the computer has."""
    if not kubectl.installed():
        pytest.skip("no kubectl is installed")
    older = kubectl.Kubectl(kubectl.installed(), kube.env, kube.namespace)
    older("create", "deployment", "web", "--image=nginx")
    older("expose", "deployment", "web", "--port=80")
    older.rolled_out("deployment/web")
    older("scale", "deployment", "web", "--replicas=2")
    older.rolled_out("deployment/web")
    older.apply(config_map("settings", a="b"))
    older.apply(config_map("settings", a="c"))
    assert older.path("configmap settings", ".data.a") == "c"
    (first, _) = names(older.get("pods"))
    assert older("exec", first, "--", "echo", "hello") == "hello\n"
    assert "Normal" in older("describe", "pod", first)
    assert older("logs", first) is not None
    older("rollout", "restart", "deployment/web")
    older.rolled_out("deployment/web")
    older("delete", "deployment,service", "web")


def test_node_labels_and_cordon(cluster, kube):
    node = cluster.name
    kube("label", "node", node, "disktype=hdd")
    kube.apply(sleeper("picky", nodeSelector={"disktype": "ssd"}))
    until(lambda: "FailedScheduling" in dict(kube.events("picky")), "an event says why it waits")
    assert (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        in dict(kube.events("picky"))["FailedScheduling"]
    )
    kube("label", "node", node, "disktype=ssd", "--overwrite")
    kube.wait("pod picky", "condition=Ready")
    kube("cordon", node)
    try:
        kube.apply(sleeper("late"))
        until(lambda: "FailedScheduling" in dict(kube.events("late")), "an event says why it waits")
        assert "1 node(s) were unschedulable" in dict(kube.events("late"))["FailedScheduling"]
    finally:
        kube("uncordon", node)
    kube.wait("pod late", "condition=Ready")
    kube("label", "node", node, "disktype-")


def test_taints(cluster, kube):
    node = cluster.name
    kube("taint", "node", node, f"only={kube.namespace}:NoSchedule")
    try:
        tolerant = [{"key": "only", "operator": "Equal", "value": kube.namespace, "effect": "NoSchedule"}]
        kube.apply(sleeper("plain"), sleeper("tolerant", tolerations=tolerant))
        kube.wait("pod tolerant", "condition=Ready")
        until(lambda: "FailedScheduling" in dict(kube.events("plain")), "an event says why it waits")
        assert "1 node(s) had untolerated taint" in dict(kube.events("plain"))["FailedScheduling"]
    finally:
        kube("taint", "node", node, "only-")
    kube.wait("pod plain", "condition=Ready")


def test_too_large_a_request_waits(kube):
    kube.apply(pod("large", container(script="sleep inf", resources={"requests": {"cpu": "1000"}})))
    until(lambda: "FailedScheduling" in dict(kube.events("large")), "an event says why it waits")
    assert "0/1 nodes are available: 1 Insufficient cpu." in dict(kube.events("large"))["FailedScheduling"]
    assert kube("get", "pod", "large", "--no-headers").split()[2] == "Pending"
