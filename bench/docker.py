"""Debian's Docker daemon doing the same, on a made host with its own network."""

import time

import processes
from dockerd import Dockerd
from host import Host


class Docker:
    def __init__(self, folder, busybox):
        self.host = Host(folder)
        self.busybox = busybox
        self.dockerd = None

    def start(self):
        """Seconds to the daemon's first answer."""
        begun = time.monotonic()
        self.dockerd = Dockerd(self.host)
        return time.monotonic() - begun

    def first(self):
        """Seconds from having the image in a file to a container's name answering in it."""
        begun = time.monotonic()
        self.dockerd.load(self.busybox)
        self.dockerd.docker("network", "create", "first")
        self.dockerd.docker("run", "-d", "--network", "first", "--name", "first", "busybox", "sleep", "3600")
        self.dockerd.docker("exec", "first", "nslookup", "first")
        return time.monotonic() - begun

    def pids(self):
        return processes.members(self.host.init, ("dockerd", "containerd", "docker-proxy"))

    def run(self, name):
        """Seconds of one `docker run --detach`."""
        begun = time.monotonic()
        self.dockerd.docker("run", "-d", "--name", name, "busybox", "sleep", "600")
        return time.monotonic() - begun

    def remove(self, names):
        self.dockerd.docker("rm", "--force", *names)

    def many(self, count):
        """Seconds to start so many containers, eight at a time."""
        begun = time.monotonic()
        script = f"busybox seq {count} | busybox xargs -P 8 -I N docker run -d --name many-N busybox sleep 3600"
        self.dockerd.sh(script, timeout=300)
        return time.monotonic() - begun

    def close(self):
        if self.dockerd:
            self.dockerd.sh("docker rm --force $(docker ps -aq)", timeout=300)
            self.dockerd.close()
        self.host.close()
