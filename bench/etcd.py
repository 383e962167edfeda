"""Debian's etcd, one member on loopback, written to over its HTTP gateway."""

import base64
import http.client
import json
import socket
import subprocess
import sys
import time

import debian


class Etcd:
    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.port, peers = one.getsockname()[1], two.getsockname()[1]
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peers}"
        self.log = open(folder / "etcd.log", "w")
        command = [debian.programs() / "etcd", "--name=bench", f"--data-dir={folder / 'etcd'}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=bench={peer}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        while not self.is_ready():
            if self.process.poll() is not None:
                sys.exit(f"etcd ended: {folder / 'etcd.log'}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def writes(self, count):
        """Seconds that each of so many puts took, one after the other on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        value = base64.b64encode(b"v" * 400).decode()
        for number in range(count):
            key = base64.b64encode(f"/registry/configmaps/default/bench-{number}".encode()).decode()
            begun = time.monotonic()
            connection.request("POST", "/v3/kv/put", json.dumps({"key": key, "value": value}))
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                sys.exit(f"etcd put: {answer.status}")
            yield time.monotonic() - begun

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
