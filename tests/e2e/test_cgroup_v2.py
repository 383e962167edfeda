"""A whole cluster on a kernel that has cgroup v2 only, as users' computers have it and the one that runs the other tests
may not: in a virtual machine.

Its processor is emulated, so that a command takes seconds: each test asks for much at once.
"""

import json

import cluster as clusters
import images
import kubectl
import pytest
from manifests import container, once, pod, sleeper
from vm import Vm
from wait import until

pytestmark = pytest.mark.timeout(1800)

# The machine's own root of all cgroups, as its host sees it, and below it that of pods.
MACHINE = "/sys/fs/cgroup/tug-tug"
PODS = f"{MACHINE}/tug/kubepods"


@pytest.fixture(scope="module")
def vm(tmp_path_factory):
    files = {"files/busybox.tar": images.make()["busybox:latest"]}
    vm = Vm(tmp_path_factory.mktemp("vm"), [clusters.program(), kubectl.stock()], files)
    clusters.STANDING.append(vm)
    yield vm
    clusters.STANDING.remove(vm)
    vm.close()


@pytest.fixture(scope="module")
def node(vm):
    vm.run("tug start; tug image load /files/busybox.tar")
    return vm


def apply(vm, *pods):
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    vm.run(f"kubectl apply -f - <<'EOF'\n{document}\nEOF\n")


def get(vm, name):
    return json.loads(vm.run(f"kubectl get --raw /api/v1/namespaces/default/pods/{name}"))


def wait(vm, condition, *names):
    vm.run(f"kubectl wait --for={condition} --timeout=240s {' '.join(f'pod/{name}' for name in names)}")


def test_what_control_groups_lack_is_named(vm):
    # As a container sees them that was given a group of its own, without controllers first.
    inside = "echo $$ > bare/cgroup.procs; mount --bind bare /sys/fs/cgroup; "
    given = f"cd /sys/fs/cgroup; mkdir -p bare; unshare -m sh -ec '{inside}"
    lacking = refused(vm, f"{given} tug start'")
    for controller in ["cpu (CONFIG_CGROUP_SCHED)", "memory (CONFIG_MEMCG)", "pids (CONFIG_CGROUP_PIDS)"]:
        assert f"the cgroup controller {controller}" in lacking
    vm.run("echo +cpu +cpuset +memory +pids > /sys/fs/cgroup/cgroup.subtree_control")
    busy = refused(vm, f"{given} tug start'")
    assert "a cgroup root without processes" in busy
    advice = busy.partition("move them: ")[2].strip()
    vm.run(f"{given} {advice}; tug start; tug delete'; rmdir bare/init bare")


def refused(vm, script):
    try:
        output = vm.run(script)
    except kubectl.Failed as failure:
        return failure.stderr
    raise AssertionError(f"it did not fail: {output}")


def test_limits_are_in_the_control_groups(node):
    resources = {"requests": {"cpu": "500m"}, "limits": {"cpu": "750m", "memory": "64Mi"}}
    main = container(script="exec sleep infinity", resources=resources)
    apply(node, pod("limited", main), sleeper("free"))
    wait(node, "condition=Ready", "limited", "free")
    # Weights are by opencontainers/runc pull 4785: half a processor is 59, as little as can be is 1.
    both = {"cpu.max": "75000 100000", "cpu.weight": "59", "memory.max": "67108864", "pids.max": "max"}
    own = {**both, "memory.oom.group": "1", "memory.swap.max": "0"}
    unlimited = {"cpu.max": "max 100000", "cpu.weight": "1", "memory.max": "max", "pids.max": "max"}
    for name, qos, of_pod, of_container in [
        ("limited", "burstable", both, own),
        ("free", "besteffort", unlimited, {**unlimited, "memory.oom.group": "1", "memory.swap.max": "0"}),
    ]:
        status = get(node, name)
        folder = f"{PODS}/{qos}/pod{status['metadata']['uid']}"
        inner = status["status"]["containerStatuses"][0]["containerID"].removeprefix("tug://")
        assert values(node, folder, of_pod) == of_pod
        assert values(node, f"{folder}/{inner}", of_container) == of_container
    assert values(node, f"{PODS}/besteffort", ["cpu.weight"]) == {"cpu.weight": "1"}
    # A container sees its own group as the root, and can't change it.
    seen = node.run(
        "kubectl exec limited -- sh -c 'cat /proc/self/cgroup /sys/fs/cgroup/memory.max; "
        "echo max > /sys/fs/cgroup/memory.max || echo kept'"
    )
    assert seen == "0::/\n67108864\nkept\n"


def values(vm, folder, files):
    lines = vm.run(f"cd {folder}; for file in {' '.join(files)}; do echo $file $(cat $file); done").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_memory_beyond_the_limit_ends_the_whole_container(node):
    script = "dd if=/dev/zero of=/dev/null bs=128M count=1; exec sleep infinity"
    main = container(script=script, resources={"limits": {"memory": "32Mi"}})
    apply(node, pod("greedy", main, restartPolicy="Never"))
    wait(node, "jsonpath={.status.phase}=Failed", "greedy")
    ended = get(node, "greedy")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_device_rules_hold(node):
    # Any device can be made, but only those that every container has can be opened. 1:11 is the kernel's log.
    script = (
        "echo x > /dev/null && head -c 1 /dev/urandom > /dev/null && echo own devices open; "
        "busybox mknod /log c 1 11 && echo made; dd if=/log of=/dev/null bs=8192 count=1 2>&1 | head -n 1"
    )
    main = container(script=script, securityContext={"privileged": True})
    apply(node, once("plain", script), pod("privileged", main, restartPolicy="Never"), sleeper("entered"))
    wait(node, "jsonpath={.status.phase}=Succeeded", "plain", "privileged")
    wait(node, "condition=Ready", "entered")
    refused = "own devices open\nmade\ndd: can't open '/log': Operation not permitted\n"
    assert node.run("kubectl logs plain") == refused
    assert node.run("kubectl logs privileged") == "own devices open\nmade\n0+1 records in\n"
    assert node.run(f"kubectl exec entered -- sh -c \"{script}\"") == refused


def test_a_killed_server_takes_nothing_along(node):
    apply(node, sleeper("survivor"))
    wait(node, "condition=Ready", "survivor")
    before = get(node, "survivor")["status"]["containerStatuses"][0]
    shims, server = processes(node, "tug/shims"), processes(node, "server")
    assert shims
    assert len(server) == 1
    node.run(f"kill -9 {server[0]}")
    until(lambda: set(processes(node, "server")) - set(server), "the server is started again", timeout=300)
    until(lambda: node.run("kubectl get --raw /readyz") == "ok", "the API answers", timeout=300)
    assert processes(node, "tug/shims") == shims
    assert node.run("kubectl exec survivor -- echo still here") == "still here\n"
    after = get(node, "survivor")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)


def processes(vm, group):
    return vm.run(f"cat {MACHINE}/{group}/cgroup.procs").split()


def test_a_stopped_cluster_starts_again(node):
    node.run("tug stop; tug start")
    wait(node, "condition=Ready", "survivor")
    assert node.run("kubectl exec survivor -- echo back") == "back\n"


def test_nothing_is_left(node):
    node.run("kubectl delete pods --all --wait")
    assert node.run(f"find {PODS} -mindepth 1 -type d -name 'pod*'") == ""
    until(lambda: not processes(node, "tug/shims"), "shims end with their pods", timeout=300)
    node.run("tug delete")
    assert node.run("find /sys/fs/cgroup -mindepth 1 -type d") == ""
