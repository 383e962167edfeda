"""A computer with a kernel that isn't this one's: Debian's, with cgroup v2 and nothing else, in QEMU without hardware
help. It has busybox, Tug, kubectl and what else it is given, all in memory, and no network.

A serial line carries scripts in and what they printed out.
"""

import base64
import os
import pathlib
import socket
import stat
import subprocess

import debian
import kubectl
from wait import until

PACKAGES = ["busybox-static", "linux-image-cloud-amd64", "qemu-system-x86"]
# Of the kernel's modules, with those that they need; all of netfilter's besides.
MODULES = ["br_netfilter", "bridge", "overlay", "veth"]
# Started twice: what the kernel unpacks can't be left by pivot_root, so that it is moved to where it can.
INIT = """#!/bin/sh
if [ $# = 0 ]; then
  mkdir /disk
  mount -t tmpfs -o size=90% disk /disk
  cp -a /bin /etc /files /init /lib /lib64 /sbin /usr /disk
  exec switch_root /disk /init moved
fi
export HOME=/root PATH=/usr/bin:/bin:/sbin
mkdir -p /dev /proc /root /run /sys /tmp /var/lib /var/log
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t tmpfs run /run
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
stty -F /dev/ttyS1 raw -echo
exec 3<> /dev/ttyS1
echo up >&3
while read -r script <&3; do
  echo "$script" | base64 -d > /run/script
  sh -e /run/script > /run/out 2> /run/err < /dev/null 3>&-
  echo "$? $(base64 -w0 /run/out) $(base64 -w0 /run/err)" >&3
done
"""


class Archive:
    """Files in the form that the kernel unpacks at its start (cpio, `newc`)."""

    def __init__(self):
        self.parts, self.seen = [], set()

    def add(self, path, mode, data=b""):
        parent = os.path.dirname(path)
        if parent and parent not in self.seen:
            self.add(parent, stat.S_IFDIR | 0o755)
        self.seen.add(path)
        name = path.encode() + b"\0"
        fields = [len(self.seen), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self.parts += [header, bytes(-len(header) % 4), data, bytes(-len(data) % 4)]

    def file(self, path, source):
        self.add(path, stat.S_IFREG | 0o755, pathlib.Path(source).read_bytes())

    def link(self, path, target):
        self.add(path, stat.S_IFLNK | 0o777, target.encode())

    def write(self, path):
        self.add("TRAILER!!!", 0)
        path.write_bytes(b"".join(self.parts))


def modules(tree, version):
    """Paths of the modules, below the folder with all of them, and of the indexes that modprobe reads."""
    folder = tree / "lib/modules" / version
    if not (folder / "modules.dep").exists():
        subprocess.run(["chroot", tree, "/sbin/depmod", version], check=True)
    needs = dict(line.split(":") for line in (folder / "modules.dep").read_text().splitlines())
    found = {path.name for path in folder.glob("modules.*")}
    for path, needed in needs.items():
        name = pathlib.Path(path).stem
        if name in MODULES or name.startswith(("nf_", "nft_", "nfnetlink")):
            found |= {path, *needed.split()}
    return folder, sorted(found)


def libraries(program):
    """Paths of the shared libraries that a program of this computer loads, the loader included; a static one has none."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for word in listing.split() if word.startswith("/")]


class Vm:
    """`programs` come to `/usr/bin`; `files` are named by where they are to be."""

    def __init__(self, folder, programs, files, memory="3G"):
        self.folder = folder
        self.tree = debian.root(PACKAGES)
        (kernel,) = (self.tree / "boot").glob("vmlinuz-*")
        self.pack(kernel.name.removeprefix("vmlinuz-"), programs, files)
        line = folder / "line"
        machine = ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", memory]
        boot = ["-kernel", kernel, "-initrd", folder / "files.cpio", "-append", "console=ttyS0 panic=-1 quiet"]
        own = ["-L", self.tree / "usr/share/qemu", "-L", self.tree / "usr/share/seabios", "-nodefaults", "-no-reboot"]
        serial = ["-serial", f"file:{folder}/console", "-serial", "chardev:line"]
        serial += ["-display", "none", "-chardev", f"socket,id=line,path={line},server=on,wait=off"]
        command = [*debian.command(self.tree, "/usr/bin/qemu-system-x86_64"), *own, *machine, *boot, *serial]
        environment = {**os.environ, "QEMU_MODULE_DIR": f"{self.tree}/usr/lib/x86_64-linux-gnu/qemu"}
        with open(folder / "qemu", "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(600)
        try:
            until(lambda: self.socket.connect(str(line)) is None, "QEMU listens")
            self.answers = self.socket.makefile()
            assert self.answers.readline() == "up\n"
        except BaseException:
            self.close()
            raise

    def pack(self, version, programs, files):
        archive = Archive()
        archive.add("init", stat.S_IFREG | 0o755, INIT.encode())
        archive.add("dev/console", stat.S_IFCHR | 0o600)
        archive.file("bin/busybox", self.tree / "bin/busybox")
        for applet in kubectl.run([self.tree / "bin/busybox", "--list"]).split():
            if applet != "busybox":
                archive.link(f"bin/{applet}", "busybox")
        # Where the kernel looks for it.
        archive.link("sbin/modprobe", "../bin/busybox")
        folder, paths = modules(self.tree, version)
        for path in paths:
            archive.file(f"lib/modules/{version}/{path}", folder / path)
        for name, text in [("passwd", "root:x:0:0::/root:/bin/sh"), ("group", "root:x:0:"), ("hostname", "vm")]:
            archive.add(f"etc/{name}", stat.S_IFREG | 0o644, f"{text}\n".encode())
        archive.add("etc/hosts", stat.S_IFREG | 0o644, b"127.0.0.1 localhost\n")
        archive.add("etc/resolv.conf", stat.S_IFREG | 0o644)
        needed = {path.lstrip("/"): path for program in programs for path in libraries(program)}
        files = {f"usr/bin/{pathlib.Path(program).name}": program for program in programs} | needed | files
        for path, source in files.items():
            archive.file(path, source)
        archive.write(self.folder / "files.cpio")

    def run(self, script, timeout=300):
        """What a shell's script prints; it ends with the first command that fails."""
        self.socket.settimeout(timeout)
        self.socket.sendall(base64.b64encode(script.encode()) + b"\n")
        code, *streams = self.answers.readline().rstrip("\n").split(" ")
        out, error = (base64.b64decode(stream).decode(errors="replace") for stream in streams)
        if code != "0":
            raise kubectl.Failed([script], int(code), out, error)
        return out

    def report(self):
        yield "console", (self.folder / "console").read_text(errors="replace")[-10000:]
        yield "QEMU", (self.folder / "qemu").read_text()
        try:
            yield "in it", self.run("(tug logs | tail -n 100; kubectl get pods,events -A; dmesg | tail) 2>&1 || true")
        except (OSError, ValueError) as error:
            yield "in it", f"no answer: {error}"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()
