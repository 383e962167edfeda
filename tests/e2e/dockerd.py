"""Debian's Docker daemon, unpacked and not installed, on a made host."""

import os
import pathlib
import subprocess

import debian
from wait import until

# The kernel's, and so the real host's too, where others may run these tests.
CGROUP = f"tug-e2e-dockerd-{os.getpid()}"
# What Debian's packages set up after they are unpacked.
AFTER = """
mkdir -p /var/lib/docker
mount -t overlay -o lowerdir={tree},upperdir={folder}/upper,workdir={folder}/work overlay {folder}/root
for each in dev proc sys tmp run var/lib/docker etc/resolv.conf; do
  [ -e {folder}/root/$each ] || {{ [ -d /$each ] && mkdir -p {folder}/root/$each || touch {folder}/root/$each; }}
  mount --rbind /$each {folder}/root/$each
done
for each in iptables iptables-save iptables-restore ip6tables; do
  ln -sf xtables-nft-multi {folder}/root/usr/sbin/$each
done
mkdir {folder}/root/old
# Not chroot: whoever enters a container's mount namespace finds himself at that namespace's root.
exec unshare --mount --propagation=private sh -ec '
  cd {folder}/root
  pivot_root . old
  busybox umount -l /old
  containerd &
  exec dockerd --containerd /run/containerd/containerd.sock --cgroup-parent /{cgroup} {options}'
"""


class Dockerd:
    def __init__(self, host, *options):
        self.host, self.folder = host, host.folder / "dockerd"
        for name in ["upper", "work", "root"]:
            (self.folder / name).mkdir(parents=True)
        self.log = open(self.folder / "log", "w")
        script = AFTER.format(tree=debian.root(), folder=self.folder, cgroup=CGROUP, options=" ".join(options))
        host.run("mkdir", "-p", "/var/lib/docker")
        self.process = host.begin("sh", "-ec", script, stdout=self.log, stderr=subprocess.STDOUT)
        until(lambda: self.docker("version"), "the Docker daemon answers")

    def docker(self, *args, timeout=60):
        return self.host.run("chroot", self.folder / "root", "docker", *args, timeout=timeout)

    def sh(self, script, timeout=60):
        return self.host.run("chroot", self.folder / "root", "sh", "-c", script, timeout=timeout)

    def load(self, archive):
        with open(archive, "rb") as content:
            command = [*self.host.enter, "chroot", str(self.folder / "root"), "docker", "load"]
            subprocess.run(command, stdin=content, stdout=subprocess.DEVNULL, check=True)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        for cgroup in pathlib.Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"):
            cgroup.rmdir()
