"""Debian's `docker-registry` on a free port of loopback, standing for docker.io or for a registry of one's own, and the
little of the distribution protocol that it takes to push the test images to it."""

import base64
import hashlib
import http.client
import json
import subprocess
import tarfile

import debian
import images
from wait import free_port, until

# Of USER and PASSWORD, as `htpasswd -B` prints it.
USER, PASSWORD = "captain", "hawser"
HTPASSWD = "captain:$2b$05$dP9WztrPCMza..9vpR6B2eL4OV56Czgo0r4PcdJ3XrqVfQm7XEhUe\n"

CONFIG = """
version: 0.1
log: {{ level: error, accesslog: {{ disabled: true }} }}
storage: {{ filesystem: {{ rootdirectory: {folder}/data }}, delete: {{ enabled: true }} }}
http: {{ addr: "127.0.0.1:{port}" }}
"""


class Registry:
    """`private` ones ask for USER and PASSWORD."""

    def __init__(self, folder, private=False):
        folder.mkdir(parents=True)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        config = CONFIG.format(folder=folder, port=self.port)
        self.headers = {}
        if private:
            (folder / "htpasswd").write_text(HTPASSWD)
            config += f"auth: {{ htpasswd: {{ realm: tug, path: {folder}/htpasswd }} }}\n"
            secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            self.headers = {"Authorization": f"Basic {secret}"}
        (folder / "config.yml").write_text(config)
        self.log = open(folder / "log", "w")
        command = [debian.programs() / "docker-registry", "serve", folder / "config.yml"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        until(lambda: self.ask("GET", "/v2/"), "the registry answers")

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def ask(self, method, path, body=None, headers=()):
        """One request; returns (headers, body). An answer of 400 and above is an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **dict(headers)})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status >= 400:
                raise OSError(f"{method} {path}: {answer.status} {body[:300]!r}")
            return answer.headers, body
        finally:
            connection.close()

    def push(self, image, name=None):
        """Pushes one of the test images; `library/` is put before it as Docker Hub has it. Returns the digest."""
        name = name or f"library/{image}"
        repository, tag = name.rsplit(":", 1)
        with tarfile.open(images.make()[image]) as archive:
            listed = json.load(archive.extractfile("manifest.json"))[0]
            config = archive.extractfile(listed["Config"]).read()
            layer = archive.extractfile(listed["Layers"][0]).read()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": self.blob(repository, "application/vnd.docker.container.image.v1+json", config),
                "layers": [self.blob(repository, "application/vnd.docker.image.rootfs.diff.tar", layer)],
            }
        )
        kind = {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"}
        headers, _ = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", manifest, kind)
        return headers["Docker-Content-Digest"]

    def blob(self, repository, kind, content):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        headers, _ = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        upload = headers["Location"].removeprefix(self.url)
        separator = "&" if "?" in upload else "?"
        self.ask("PUT", f"{upload}{separator}digest={digest}", content, {"Content-Type": "application/octet-stream"})
        return {"mediaType": kind, "size": len(content), "digest": digest}
