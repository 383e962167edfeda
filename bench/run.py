"""`make bench`: the numbers of SPECIFICATION.md, measured as a user would meet them, each beside what we aim at and
beside what Debian's Docker daemon or etcd needs for its like on the same computer in the same run.

Makes one cluster, one Docker daemon on a made host and one etcd, one after the other, and takes them away. Everything is
bounded: about four minutes in all on a quiet machine.
"""

import os
import pathlib
import shutil
import sys
import tempfile
from statistics import median

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests/e2e")]

import images  # noqa: E402
import processes  # noqa: E402
from docker import Docker  # noqa: E402
from etcd import Etcd  # noqa: E402
from tug import Tug  # noqa: E402

KILLS = 5
RUNS = 10
MANY = 100
WRITES = 500

# Figure, unit, aim, and what the peer does that is like it.
FIGURES = {
    "api": ("tug start to the API answering", "s", None, "dockerd answering"),
    "ready": ("tug start to node Ready and DNS answering", "s", None, None),
    "first": ("… and to a Service's name answering in a Deployment's pod", "s", 2, "a container's name answering in it"),
    "killed": ("kill -9 of the server to ready again, median", "s", 1, None),
    "memory": ("memory at rest, one pod: proportional, all processes", "MB", 100, "dockerd, one container"),
    "processor": ("processor at rest, of one core", "%", 1, "dockerd, one container"),
    "write": ("a small object created over HTTPS, median", "ms", None, "etcd put over HTTP"),
    "run": ("kubectl run of a local image to Running, median", "ms", 300, "docker run --detach"),
    "many": (f"{MANY} pods of one Deployment, all Ready", "s", 10, f"{MANY} times docker run, 8 at once"),
    "memory many": (f"memory with {MANY} pods more", "MB", None, f"dockerd, {MANY} containers more"),
}


def containers(of):
    """What a cluster and a Docker daemon can both do."""
    names = [f"run-{number}" for number in range(RUNS)]
    figures = {"memory": processes.megabytes(of.pids()), "processor": processes.percent_at_rest(of.pids())}
    figures["run"] = median([of.run(name) for name in names]) * 1000
    of.remove(names)
    figures["many"] = of.many(MANY)
    figures["memory many"] = processes.megabytes(of.pids())
    return figures


def tug(folder, busybox):
    tug = Tug(folder, busybox)
    try:
        api, ready = tug.start()
        figures = {"api": api, "ready": ready, "first": ready + tug.first()}
        figures["killed"] = median([tug.killed() for _ in range(KILLS)])
        figures.update(containers(tug))
        figures["write"] = median(tug.writes(WRITES)) * 1000
        return figures
    finally:
        tug.close()


def docker(folder, busybox):
    docker = Docker(folder, busybox)
    try:
        start = docker.start()
        return {"api": start, "first": start + docker.first(), **containers(docker)}
    finally:
        docker.close()


def etcd(folder):
    etcd = Etcd(folder)
    try:
        return {"write": median(etcd.writes(WRITES)) * 1000}
    finally:
        etcd.close()


def row(key, ours, peers):
    title, unit, aim, like = FIGURES[key]
    text = f"{title:<58} {ours[key]:>7.3g} {unit:<3}"
    text += f" aim {aim:>4g}" if aim else " " * 9
    if key in peers:
        text += f"   {like}: {peers[key]:.3g} {unit}, {peers[key] / ours[key]:.2g} times as much"
    return text


def main():
    if os.geteuid():
        sys.exit("the benchmark makes a cluster, which takes root")
    busybox = images.make()["busybox:latest"]
    # On a disk, as the state of the cluster is, and not in memory.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tug-bench-", dir="/var/tmp"))
    try:
        ours = tug(folder / "tug", busybox)
        peers = {**docker(folder / "docker", busybox), **etcd(folder)}
        for key in FIGURES:
            print(row(key, ours, peers))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
