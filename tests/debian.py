"""Debian's packages that the tests need, unpacked into the cache folder and not installed: nothing of them starts on
the developer's computer, now or at the next boot.

`root()` is a tree of its own, with its own libraries: to `chroot` into or to take files from. `programs()` is a folder
for `PATH` with those of its programs that are to be run from outside.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

PACKAGES = [
    "busybox",
    "curl",
    "docker-registry",
    "docker.io",
    "etcd-server",
    "nginx-light",
    "redis-server",
    "skopeo",
]
PROGRAMS = {
    "curl": "/usr/bin/curl",
    "docker": "/usr/bin/docker",
    "docker-registry": "/usr/bin/docker-registry",
    "etcd": "/usr/bin/etcd",
    "skopeo": "/usr/bin/skopeo",
}
LOADER = "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def cache():
    """Where all that the tests fetch or make is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "tug"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def once(folder, make):
    """Runs `make(partial)` if `folder` isn't there, and leaves it there whole or not at all. Others wait meanwhile."""
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def root(packages=PACKAGES):
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    return once(cache() / f"debian-{name}", lambda tree: unpack(tree, packages))


def unpack(tree, packages):
    """The packages and all that they depend on, as if nothing was installed yet."""
    state = tree.with_name(tree.name + ".apt")
    (state / "archives/partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = [
        f"Dir::State::status={state}/status",
        f"Dir::Cache::archives={state}/archives",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
        "Debug::NoLocking=1",
    ]
    command = ["apt-get", "-qq", *(f"-o{option}" for option in options), "install", "--download-only", "-y", *packages]
    if subprocess.run(command, check=False).returncode:
        # The lists are missing or too old.
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(command, check=True)
    for package in sorted(state.glob("archives/*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, tree], check=True)
    for folder in ["dev", "proc", "sys", "tmp", "run"]:
        (tree / folder).mkdir(exist_ok=True)
    if not (tree / "bin/sh").exists():
        (tree / "bin/sh").symlink_to("busybox")
    shutil.rmtree(state)


def libraries(program):
    """Paths, inside the tree, of the shared libraries that a program of it loads, the loader included."""
    command = ["chroot", root(), LOADER, "--list", program]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sorted({word for word in listing.split() if word.startswith("/")})


def file(path):
    """Where a file of the tree is, links followed as in the tree and not out of it."""
    found = root() / path.lstrip("/")
    while found.is_symlink():
        target = os.readlink(found)
        found = root() / target.lstrip("/") if target.startswith("/") else found.parent / target
    return found


def command(tree, path):
    """What to type to run a program of a tree with the tree's libraries."""
    search = ":".join(f"{tree}{path}" for path in ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"])
    return [f"{tree}{LOADER}", "--library-path", search, f"{tree}{path}"]


def programs():
    """A folder with a script for each program, which runs it with the tree's libraries."""
    tree = root()

    def write(folder):
        for name, path in PROGRAMS.items():
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {" ".join(command(tree, path))} "$@"\n')
            script.chmod(0o755)

    name = hashlib.sha256(" ".join(PROGRAMS).encode()).hexdigest()[:6]
    return once(tree.with_name(f"{tree.name}-bin-{name}"), write)


if __name__ == "__main__":
    print(programs())
