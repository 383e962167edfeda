"""Tug's figures: one cluster, made with `tug start` and used with the stock kubectl and over HTTPS."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import time

import cluster as clusters
import processes

# A server that ends before it is a second old is held back for the rest of that second.
LIVED_SECONDS = 1.5


def deployment(name, replicas, **container):
    container = {
        "name": "c",
        "image": "busybox",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        **container,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }


# Ready once the name of the Service in front of it answers inside of it.
FIRST = [
    deployment(
        "first",
        1,
        readinessProbe={"periodSeconds": 1, "exec": {"command": ["nslookup", "first.default.svc.cluster.local"]}},
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "first"},
        "spec": {"selector": {"app": "first"}, "ports": [{"port": 80}]},
    },
]


class Tug:
    def __init__(self, folder, busybox):
        self.cluster = clusters.Cluster("bench", folder)
        self.busybox = busybox

    def start(self):
        """Seconds from `tug start` to: the API answering, the command's end (node Ready, DNS answering)."""
        begun = time.monotonic()
        command = self.cluster.command("start")
        process = subprocess.Popen(
            command, env=self.cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        api, said = None, []
        for line in process.stderr:
            said.append(line)
            # What it says when its server has come to this point.
            if line.strip() == "Starting controllers and scheduler":
                api = time.monotonic() - begun
        if process.wait():
            sys.exit(f"tug start failed:\n{''.join(said)}")
        ready = time.monotonic() - begun
        self.address, self.context = self.cluster.api()
        return api, ready

    def first(self):
        """Seconds from having the image in a file to a Service's name answering in a Deployment's pod."""
        begun = time.monotonic()
        self.cluster.tug("image load", self.busybox)
        self.cluster.kubectl.apply(*FIRST)
        self.cluster.kubectl.rolled_out("deployment/first")
        return time.monotonic() - begun

    def connection(self, timeout=60):
        return http.client.HTTPSConnection(self.address, context=self.context, timeout=timeout)

    def is_ready(self):
        try:
            connection = self.connection(timeout=1)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def killed(self):
        """Seconds from `kill -9` of the server to /readyz answering ok."""
        time.sleep(LIVED_SECONDS)
        victim = self.cluster.server_pid()
        begun = time.monotonic()
        os.kill(victim, 9)
        while not self.is_ready():
            if time.monotonic() - begun > 60:
                sys.exit("the server did not come back")
            time.sleep(0.002)
        return time.monotonic() - begun

    def pids(self):
        init = pathlib.Path(f"/run/tug/machines/{self.cluster.name}/pid").read_text().split()[0]
        return processes.members(init, ("tug",))

    def writes(self, count):
        """Seconds that each of so many creates of a small object took, one after the other on one connection."""
        connection = self.connection()
        for number in range(count):
            body = {"metadata": {"name": f"bench-{number}"}, "data": {"key": "v" * 100}}
            begun = time.monotonic()
            connection.request(
                "POST",
                "/api/v1/namespaces/default/configmaps",
                json.dumps(body),
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                sys.exit(f"creating a ConfigMap: {answer.status}")
            yield time.monotonic() - begun

    def run(self, name):
        """Seconds from typing `kubectl run` to the pod's phase Running in a watch."""
        connection = self.connection()
        query = f"watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=60"
        connection.request("GET", f"/api/v1/namespaces/default/pods?{query}")
        watch = connection.getresponse()
        begun = time.monotonic()
        kubectl = self.cluster.kubectl
        options = ["--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "600"]
        run = subprocess.Popen(kubectl.command("run", name, *options), env=kubectl.env, stdout=subprocess.DEVNULL)
        for line in watch:
            if json.loads(line)["object"].get("status", {}).get("phase") == "Running":
                took = time.monotonic() - begun
                break
        else:
            sys.exit(f"pod {name} did not run")
        run.wait()
        connection.close()
        return took

    def remove(self, names):
        self.cluster.kubectl("delete", "pod", *names, "--grace-period=0", "--force")

    def many(self, count):
        """Seconds from typing `kubectl apply` of a Deployment with so many pods to the last one Ready."""
        begun = time.monotonic()
        self.cluster.kubectl.apply(deployment("many", count))
        self.cluster.kubectl.rolled_out("deployment/many", timeout=300)
        return time.monotonic() - begun

    def close(self):
        self.cluster.delete()
