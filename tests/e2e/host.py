"""A made host: namespaces in which everything that a computer has is its own, so that a test may run a Docker daemon or
a firewall there and see all that a cluster leaves behind, while the real host's network stays untouched."""

import contextlib
import os
import pathlib
import select
import subprocess

import kubectl
from wait import free_port, until

# Folders that programs write to get a copy of their own; what else there is is the real host's.
OWN = ["/var/lib", "/run", "/etc", "/var/log"]


class Host:
    def __init__(self, folder):
        self.folder = folder
        script = ["mount --make-rprivate /", "ip link set lo up", "echo 0 > /proc/sys/net/ipv4/ip_forward"]
        for number, own in enumerate(OWN):
            upper, work = folder / f"upper{number}", folder / f"work{number}"
            upper.mkdir(parents=True)
            work.mkdir()
            script.append(f"mount -t overlay -o lowerdir={own},upperdir={upper},workdir={work} overlay {own}")
        # Of what the real host has in it nothing is to be seen; and overlays of images can't lie on an overlay.
        for name in ["tug", "docker"]:
            (folder / name).mkdir()
            script.append(f"mkdir -p /var/lib/{name} && mount --bind {folder / name} /var/lib/{name}")
        # A first process that reaps, as any computer has it.
        script.append("mount -t tmpfs tmpfs /run; touch /run/up; echo up; while true; do sleep 1000 & wait; done")
        spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child"]
        command = ["unshare", *spaces, "sh", "-ec", "\n".join(script)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stdout.readline() == "up\n"
        (self.init,) = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.enter = ("nsenter", f"--target={self.init}", "--net", "--mount", "--pid", "--uts", "--ipc")

    def run(self, *command, timeout=60):
        return kubectl.run([*self.enter, *map(str, command)], timeout=timeout)

    def begin(self, *command, **options):
        return subprocess.Popen([*self.enter, *map(str, command)], stdin=subprocess.DEVNULL, **options)

    @contextlib.contextmanager
    def listening(self, port=None):
        """A program that has a port of the loopback; yields the port."""
        port = port or free_port()
        serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port), "--directory", "/usr/share/doc"]
        process = self.begin(*serve)
        page = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/').read())"
        try:
            until(lambda: "Directory listing" in self.run("python3", "-c", page), "the program listens")
            yield port
            # Its callers still reach it.
            assert "Directory listing" in self.run("python3", "-c", page)
        finally:
            # Only the program itself: `begin` has nsenter before it.
            self.run("pkill", "--full", f"http.server --bind 127.0.0.1 {port} ")
            process.wait()

    def state(self):
        """What a cluster could leave behind, as text: links, addresses, routes, firewall, mounts, processes, files."""
        looks = {
            "links": "ip -o link | cut -d: -f2",
            "addresses": "ip -o -4 address",
            "routes": "ip route show table all type unicast",
            "firewall": "nft list ruleset",
            # The real host's own, which other tests may have in their folders, come and go.
            "mounts": "cut -d' ' -f2,3 /proc/mounts | grep -v ^/tmp/ || true",
            "processes": "exec cat /proc/[0-9]*/comm",
            "files": "find /run /etc /var/lib -mindepth 2 -newer /run/up -path '*tug*'",
            "namespaces": "ls /run/netns 2>&1 || true",
        }
        state = {what: self.run("sh", "-c", look) for what, look in looks.items()}
        # These come in the order of their numbers as texts, or of their making.
        return state | {what: sorted(state[what].splitlines()) for what in ["mounts", "processes", "files"]}

    def close(self):
        # Its first process has ended when all of its others have, and no control group is in use any more.
        init = os.pidfd_open(int(self.init))
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        select.select([init], [], [])
        os.close(init)
        # Of clusters that a failed test left: cgroups are the kernel's, and the real host's too.
        for machine in (self.folder / "tug").glob("machines/*"):
            left = pathlib.Path("/sys/fs/cgroup").glob(f"**/tug-{machine.name}/**/")
            for cgroup in sorted(left, key=lambda path: -len(path.parts)):
                cgroup.rmdir()
