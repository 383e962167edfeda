"""`make bench`: the numbers of SPECIFICATION.md, measured as a user would meet them, each beside what we aim at.

Makes one cluster of its own and takes it away. Everything is bounded: about two minutes in all on a quiet machine.
"""

import json
import os
import pathlib
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests/e2e")]

import cluster as clusters  # noqa: E402
import images  # noqa: E402

# Tug's processes at rest are looked at for so long.
REST_SECONDS = 30
KILLS = 5
RUNS = 10
PODS = 100
TICKS = os.sysconf("SC_CLK_TCK")

# What `tug start` says when its server has come to this point.
API_ANSWERS = "Starting controllers and scheduler"

PROBED = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "first"},
    "spec": {
        "selector": {"matchLabels": {"app": "first"}},
        "template": {
            "metadata": {"labels": {"app": "first"}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": "busybox",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "3600"],
                        "readinessProbe": {
                            "periodSeconds": 1,
                            "exec": {"command": ["nslookup", "first.default.svc.cluster.local"]},
                        },
                    }
                ]
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "first"},
    "spec": {"selector": {"app": "first"}, "ports": [{"port": 80}]},
}


def started(cluster):
    """Seconds from `tug start` to: the API answering, the command's end (node Ready, DNS answering)."""
    begun = time.monotonic()
    command = cluster.command("start")
    process = subprocess.Popen(command, env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    api, said = None, []
    for line in process.stderr:
        said.append(line)
        if line.strip() == API_ANSWERS:
            api = time.monotonic() - begun
    if process.wait():
        sys.exit(f"tug start failed:\n{''.join(said)}")
    return api, time.monotonic() - begun


class Tls:
    """The administrator's door to the API, kept ready: making it is no part of what is measured."""

    def __init__(self, cluster):
        config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        user = config["users"][0]["user"]
        self.server = config["clusters"][0]["cluster"]["server"]
        authority = clusters.decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
        self.context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile("w", dir=cluster.folder) as pem:
            pem.write(clusters.decode(user["client-certificate-data"]) + clusters.decode(user["client-key-data"]))
            pem.flush()
            self.context.load_cert_chain(pem.name)

    def get(self, path, timeout=30):
        return urllib.request.urlopen(self.server + path, timeout=timeout, context=self.context)

    def ready(self):
        try:
            with self.get("/readyz", timeout=1) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False


def killed(cluster, tls):
    """Seconds from `kill -9` of the server to /readyz answering ok."""
    victim = cluster.server_pid()
    begun = time.monotonic()
    os.kill(victim, 9)
    while not tls.ready():
        if time.monotonic() - begun > 60:
            sys.exit("the server did not come back")
        time.sleep(0.002)
    return time.monotonic() - begun


def members(cluster):
    """Tug's own processes in the machine, by the number of the machine's first."""
    init = pathlib.Path(f"/run/tug/machines/{cluster.name}/pid").read_text().split()[0]
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            own = os.readlink(folder / "ns/pid") == space
            if own and (folder / "comm").read_text().startswith("tug"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def memory_bytes(pids):
    """Proportional set sizes, summed."""
    rolled = (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) << 10 for text in rolled for line in text.splitlines() if line.startswith("Pss:"))


def processor_seconds(pids):
    def of(pid):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    return sum(map(of, pids))


def run_to_running(cluster, tls, name):
    """Seconds from typing `kubectl run` to the pod's phase Running in a watch."""
    path = f"/api/v1/namespaces/default/pods?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=60"
    with tls.get(path, timeout=60) as watch:
        begun = time.monotonic()
        run = cluster.kubectl.begin("run", name, "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "600")
        for line in watch:
            if json.loads(line)["object"].get("status", {}).get("phase") == "Running":
                took = time.monotonic() - begun
                break
        else:
            sys.exit(f"pod {name} did not run")
        run.communicate()
    return took


def many(cluster):
    """Seconds from `kubectl create deployment --replicas=100` to the last pod Ready."""
    begun = time.monotonic()
    kube = cluster.kubectl
    kube("apply", "-f", "-", stdin=json.dumps(deployment("many", PODS)))
    kube.rolled_out("deployment/many", timeout=300)
    return time.monotonic() - begun


def deployment(name, replicas):
    made = json.loads(json.dumps(PROBED).replace('"first"', json.dumps(name)))
    made["spec"]["replicas"] = replicas
    made["spec"]["strategy"] = {"type": "Recreate"}
    container = made["spec"]["template"]["spec"]["containers"][0]
    del container["readinessProbe"]
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    return made


def show(figure, value, unit, aim):
    verdict = "" if aim is None else f"aim {aim:g} {unit}, {value / aim:.2f} of it"
    print(f"{figure:<58} {value:>8.3g} {unit:<4} {verdict}", flush=True)


def main():
    if os.geteuid():
        sys.exit("the benchmark makes a cluster, which takes root")
    busybox = images.make()["busybox:latest"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tug-bench-"))
    cluster = clusters.Cluster(f"bench-{os.getpid()}", folder)
    try:
        api, ready = started(cluster)
        begun = time.monotonic()
        cluster.tug("image load", busybox)
        cluster.kubectl.apply(PROBED, SERVICE)
        cluster.kubectl.rolled_out("deployment/first")
        first = time.monotonic() - begun
        show("tug start: API answering", api, "s", None)
        show("tug start: node Ready, DNS answering", ready, "s", None)
        show("… and a Service's name answering in a Deployment's pod", ready + first, "s", 2)
        tls = Tls(cluster)
        show("kill -9 of the server to ready again (median)", statistics.median(killed(cluster, tls) for _ in range(KILLS)), "s", 1)

        time.sleep(5)
        pids = members(cluster)
        before = processor_seconds(pids)
        time.sleep(REST_SECONDS)
        used = 100 * (processor_seconds(pids) - before) / REST_SECONDS
        show("memory at rest, one pod (proportional, all processes)", memory_bytes(pids) / 1e6, "MB", 100)
        show("processor at rest, of one core", used, "%", 1)

        times = [run_to_running(cluster, tls, f"run-{n}") for n in range(RUNS)]
        show("kubectl run of a local image to Running (median)", statistics.median(times) * 1000, "ms", 300)
        cluster.kubectl("delete", "pod", *(f"run-{n}" for n in range(RUNS)), "--grace-period=0", "--force")
        show(f"{PODS} pods of one Deployment, all Ready", many(cluster), "s", 10)
        pids = members(cluster)
        show(f"memory with {PODS} pods", memory_bytes(pids) / 1e6, "MB", None)
    finally:
        cluster.delete()


if __name__ == "__main__":
    main()
