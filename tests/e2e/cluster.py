"""A cluster made by `tug start`, with a home folder of its own for the kubeconfig."""

import base64
import json
import os
import pathlib
import ssl
import subprocess
import tempfile

import kubectl

HERE = pathlib.Path(__file__).parent
# Clusters that stand: when a test fails, what they have to say is shown.
STANDING = []


def program():
    """The binary under test."""
    return pathlib.Path(os.environ.get("TUG") or HERE.parents[1] / "target/release/tug").absolute()


class Cluster:
    """`enter` is a command prefix, for a cluster on a made host. Control groups are the kernel's, also of clusters on made
    hosts: what bears the run's number meets nothing of another run's."""

    def __init__(self, name, folder, enter=(), client=None):
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder, self.enter = f"{name}-{os.getpid()}", folder, tuple(enter)
        self.env = {**kubectl.environment(folder), "KUBECONFIG": str(folder / "kubeconfig")}
        self.kubectl = kubectl.Kubectl(client or kubectl.stock(), self.env, enter=self.enter)

    def command(self, verb, *args):
        return [*self.enter, str(program()), *verb.split(), "--name", self.name, *map(str, args)]

    def tug(self, verb, *args, timeout=150):
        """What `tug VERB --name NAME ARGS` prints."""
        return kubectl.run(self.command(verb, *args), timeout=timeout, env=self.env)

    def refused(self, verb, *args):
        try:
            output = self.tug(verb, *args)
        except kubectl.Failed as failure:
            return failure.stderr
        raise AssertionError(f"tug {verb} did not fail: {output}")

    def start(self, *args):
        output = self.tug("start", *args)
        if self not in STANDING:
            STANDING.append(self)
        return output

    def delete(self):
        if self in STANDING:
            STANDING.remove(self)
        return self.tug("delete")

    def ip(self):
        return self.tug("ip").strip()

    def ssh(self, script):
        """What a shell on the node prints."""
        return self.tug("ssh", "--", "sh", "-c", script)

    def traces(self, pod):
        """What the node has of a pod, by its name and uid: directories, control groups, records, mounts, links."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        folders = "/var/lib/tug /run/tug /var/log/pods /sys/fs/cgroup"
        return self.ssh(
            f"find {folders} -name '*{uid}*' 2>/dev/null; grep {uid} /proc/self/mountinfo;"
            f"ls -d /var/log/containers/{name}_* 2>/dev/null;"
            f"grep -l {uid} /var/lib/tug/engine/*/*/*.json 2>/dev/null; true"
        ).splitlines()

    def server_pid(self):
        """The server's number on the host: a child of the machine's first process."""
        init = pathlib.Path(f"/run/tug/machines/{self.name}/pid").read_text().split()[0]
        for pid in pathlib.Path(f"/proc/{init}/task/{init}/children").read_text().split():
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "tug-server\n":
                return int(pid)
        return None

    def api(self):
        """Host with port of the API, and a TLS context with the administrator's certificate."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=decode(server["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as pem:
            pem.write(decode(user["client-certificate-data"]) + decode(user["client-key-data"]))
            pem.flush()
            context.load_cert_chain(pem.name)
        return server["server"].removeprefix("https://"), context

    def report(self):
        """What a person would look at when something went wrong."""
        kube = self.kubectl
        looks = {
            "tug status": lambda: self.tug("status", timeout=20),
            "get all": lambda: kube("get", "all,events", "-A", "-o", "wide", "--request-timeout=10s", timeout=20),
            "describe pods": lambda: kube("describe", "pods", "-A", "--request-timeout=10s", timeout=20),
            "tug logs": lambda: self.tug("logs", timeout=20)[-20000:],
        }
        for title, look in looks.items():
            try:
                yield f"{self.name}: {title}", look()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                yield f"{self.name}: {title}", f"failed: {error}"


def decode(data):
    return base64.b64decode(data).decode()
