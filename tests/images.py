"""Makes the images that the tests run, from Debian's packages, as `docker save` archives.

Each image is a dictionary of files to put in its one layer and a configuration; nothing is downloaded beyond the
packages that `make deps` installs.
"""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

HERE = pathlib.Path(__file__).parent


def libraries(*programs):
    """Shared libraries that the programs load, the loader included."""
    found = set()
    for program in programs:
        for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.splitlines():
            for word in line.split():
                if word.startswith("/"):
                    found.add(word)
    return sorted(found)


def package_files(*packages):
    """Regular files and links of Debian packages, without documentation."""
    files = []
    for package in packages:
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout
        for path in listing.splitlines():
            if os.path.isfile(path) and not path.startswith(("/usr/share/doc", "/usr/share/man", "/usr/share/lintian")):
                files.append(path)
    return files


PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nwww-data:x:33:33:www:/var/www:/bin/false\nredis:x:101:101:redis:/data:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\nredis:x:101:\ntty:x:5:\n"
APPLETS = "sh ls cat echo sleep true false env id mkdir rm cp mv touch grep sed awk wc head tail ps top df mount umount ping nslookup wget nc httpd hostname ip vi chmod chown ln date dd tar find xargs test kill printf seq stat tr uname sync yes timeout tee sort uniq cut which du stty tty whoami md5sum sha256sum".split()


class Layer:
    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)
        self.seen = set()
        for directory, mode in [("tmp", 0o1777), ("etc", 0o755), ("var/run", 0o755), ("root", 0o700), ("dev", 0o755), ("proc", 0o755), ("sys", 0o755)]:
            self.directory(directory, mode)
        self.text("etc/passwd", PASSWD)
        self.text("etc/group", GROUP)

    def directory(self, path, mode=0o755, uid=0):
        parts = path.strip("/").split("/")
        for i in range(1, len(parts) + 1):
            name = "/".join(parts[:i])
            if name in self.seen:
                continue
            self.seen.add(name)
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid = tarfile.DIRTYPE, (mode if i == len(parts) else 0o755), uid if i == len(parts) else 0
            self.tar.addfile(info)

    def text(self, path, text, mode=0o644):
        self.directory(os.path.dirname(path)) if os.path.dirname(path) else None
        data = text.encode()
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(data), mode
        self.tar.addfile(info, io.BytesIO(data))

    def link(self, path, target):
        self.directory(os.path.dirname(path))
        info = tarfile.TarInfo(path)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        self.tar.addfile(info)

    def file(self, source, path=None):
        path = (path or source).strip("/")
        if path in self.seen:
            return
        self.seen.add(path)
        self.directory(os.path.dirname(path))
        with open(source, "rb") as content:
            info = tarfile.TarInfo(path)
            info.size = os.fstat(content.fileno()).st_size
            info.mode = os.fstat(content.fileno()).st_mode & 0o777
            self.tar.addfile(info, content)

    def busybox(self):
        self.file("/bin/busybox", "bin/busybox")
        for applet in APPLETS:
            self.link(f"bin/{applet}", "busybox")
        return self

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


def archive(path, names, layer, config):
    """Writes a `docker save` archive."""
    digest = hashlib.sha256(layer).hexdigest()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "tests/images.py"}],
    }
    document = json.dumps(document).encode()
    config_name = hashlib.sha256(document).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": names, "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, data in [(config_name, document), (f"{digest}/layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]

NGINX_CONF = """daemon off;
worker_processes 1;
pid /var/run/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 256; }
http {
  access_log /dev/stdout;
  include /etc/nginx/mime.types;
  server { listen 80; root /usr/share/nginx/html; index index.html; }
}
"""


def busybox():
    return Layer().busybox().done(), {"Env": ENV, "Cmd": ["sh"]}


def nginx(version):
    layer = Layer().busybox()
    for path in ["/usr/sbin/nginx", "/etc/nginx/mime.types", *libraries("/usr/sbin/nginx")]:
        layer.file(path)
    layer.text("etc/nginx/nginx.conf", NGINX_CONF)
    layer.text("usr/share/nginx/html/index.html", f"<title>Welcome to nginx!</title> {version}\n")
    for directory in ["var/lib/nginx", "var/log/nginx"]:
        layer.directory(directory, uid=33)
    config = {"Env": ENV + [f"NGINX_VERSION={version}"], "Cmd": ["/usr/sbin/nginx"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    return layer.done(), config


def redis():
    layer = Layer().busybox()
    for program in ["/usr/bin/redis-check-rdb", "/usr/bin/redis-cli"]:
        for path in [program, *libraries(program)]:
            layer.file(path)
    layer.link("usr/bin/redis-server", "redis-check-rdb")
    layer.directory("data", uid=101)
    config = {"Env": ENV, "User": "redis", "WorkingDir": "/data", "Cmd": ["redis-server", "--protected-mode", "no"], "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}}
    return layer.done(), config


def echo(work, version):
    """The server in `echo/main.rs`: it tells its version, its host name and what it was asked."""
    program = work / "echo"
    if not program.exists():
        command = ["rustc", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o", program, HERE / "echo/main.rs"]
        subprocess.run(command, check=True)
    layer = Layer()
    layer.file(program, "bin/echo-server")
    return layer.done(), {"Env": ENV + [f"VERSION={version}"], "Entrypoint": ["/bin/echo-server"], "ExposedPorts": {"8080/tcp": {}}}


def make(work):
    """Writes all archives into the directory `work`; returns {name: path}. What is there already is kept."""
    work.mkdir(parents=True, exist_ok=True)
    recipes = {
        "busybox:latest": busybox,
        "nginx:latest": lambda: nginx("1.22"),
        "nginx:1.7.9": lambda: nginx("1.7.9"),
        "nginx:1.8.1-alpine": lambda: nginx("1.8.1"),
        "redis:latest": redis,
        "echo:1": lambda: echo(work, "1"),
        "echo:2": lambda: echo(work, "2"),
    }
    paths = {}
    stamp = hashlib.sha256(pathlib.Path(__file__).read_bytes() + (HERE / "echo/main.rs").read_bytes()).hexdigest()[:12]
    for name, recipe in recipes.items():
        path = work / (name.replace(":", "_") + f".{stamp}.tar")
        if not path.exists():
            layer, config = recipe()
            partial = path.with_suffix(".partial")
            archive(partial, [name], layer, config)
            partial.rename(path)
        paths[name] = path
    return paths


if __name__ == "__main__":
    import sys

    for name, path in make(pathlib.Path(sys.argv[1])).items():
        print(name, path)
