"""Makes the images that the tests run, from Debian's packages, as `docker save` archives.

An image is one layer of files and a configuration.
"""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

import debian

HERE = pathlib.Path(__file__).parent


PASSWD = """root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
www-data:x:33:33:www:/var/www:/bin/false
redis:x:101:101:redis:/data:/bin/false
"""
GROUP = """root:x:0:
tty:x:5:
www-data:x:33:
redis:x:101:
crew:x:600:redis
nogroup:x:65534:
"""
APPLETS = """
awk cat chmod chown cp cut date dd df du echo env false find grep head hostname httpd id ip kill ln ls md5sum mkdir
mount mv nc nslookup ping printf ps readlink rm sed seq sh sha256sum sleep sort stat stty sync tail tar tee test timeout
top touch tr true tty umount uname uniq vi wc wget which whoami xargs yes
""".split()


class Layer:
    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)
        self.seen = set()
        for directory in ["etc", "var/run", "dev", "proc", "sys"]:
            self.directory(directory)
        self.directory("tmp", 0o1777)
        self.directory("root", 0o700)
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
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            if i == len(parts):
                info.mode, info.uid = mode, uid
            self.tar.addfile(info)

    def text(self, path, text, mode=0o644):
        self.directory(os.path.dirname(path))
        data = text.encode()
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(data), mode
        self.tar.addfile(info, io.BytesIO(data))

    def link(self, path, target):
        self.directory(os.path.dirname(path))
        info = tarfile.TarInfo(path)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        self.tar.addfile(info)

    def file(self, source, path):
        path = path.strip("/")
        if path in self.seen:
            return
        self.seen.add(path)
        self.directory(os.path.dirname(path))
        with open(source, "rb") as content:
            info = tarfile.TarInfo(path)
            info.size = os.fstat(content.fileno()).st_size
            info.mode = os.fstat(content.fileno()).st_mode & 0o777
            self.tar.addfile(info, content)

    def debian(self, path):
        """A file of Debian's packages, and the libraries that it loads."""
        for each in [path, *debian.libraries(path)]:
            self.file(debian.file(each), each)

    def busybox(self):
        self.debian("/bin/busybox")
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
        for name, data in [
            (config_name, document),
            (f"{digest}/layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ]:
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
    layer.debian("/usr/sbin/nginx")
    layer.debian("/etc/nginx/mime.types")
    layer.text("etc/nginx/nginx.conf", NGINX_CONF)
    layer.text("usr/share/nginx/html/index.html", f"<title>Welcome to nginx!</title> {version}\n")
    for directory in ["var/lib/nginx", "var/log/nginx"]:
        layer.directory(directory, uid=33)
    return layer.done(), {
        "Env": ENV + [f"NGINX_VERSION={version}"],
        "Cmd": ["/usr/sbin/nginx"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    }


def curl():
    layer = Layer().busybox()
    layer.debian("/usr/bin/curl")
    return layer.done(), {"Env": ENV, "Cmd": ["curl", "--help"]}


def redis():
    layer = Layer().busybox()
    for program in ["/usr/bin/redis-check-rdb", "/usr/bin/redis-cli"]:
        layer.debian(program)
    layer.link("usr/bin/redis-server", "redis-check-rdb")
    layer.directory("data", uid=101)
    return layer.done(), {
        "Env": ENV,
        "User": "redis",
        "WorkingDir": "/data",
        "Cmd": ["redis-server", "--protected-mode", "no"],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
    }


def echo(work, version):
    """The server in `echo/main.rs`: it tells its version, its host name and what it was asked."""
    program = work / "echo"
    if not program.exists():
        options = ["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]
        command = ["rustc", "--edition=2024", *options, "-o", program, HERE / "echo/main.rs"]
        subprocess.run(command, check=True)
    layer = Layer()
    layer.file(program, "bin/echo-server")
    return layer.done(), {
        "Env": ENV + [f"VERSION={version}"],
        "Entrypoint": ["/bin/echo-server"],
        "ExposedPorts": {"8080/tcp": {}},
    }


RECIPES = {
    "busybox:latest": lambda _: busybox(),
    "curl:latest": lambda _: curl(),
    "nginx:latest": lambda _: nginx("1.22"),
    "nginx:1.7.9": lambda _: nginx("1.7.9"),
    "nginx:1.8.1-alpine": lambda _: nginx("1.8.1"),
    "redis:latest": lambda _: redis(),
    "echo:1": lambda work: echo(work, "1"),
    "echo:2": lambda work: echo(work, "2"),
}


def make():
    """{name: path of its archive}. They are made once for each state of the files that they are made from."""
    sources = [pathlib.Path(__file__), pathlib.Path(debian.__file__), HERE / "echo/main.rs"]
    stamp = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]

    def write(folder):
        for name, recipe in RECIPES.items():
            layer, config = recipe(folder)
            archive(folder / file_name(name), [name], layer, config)

    folder = debian.once(debian.cache() / f"images-{stamp}", write)
    return {name: folder / file_name(name) for name in RECIPES}


def file_name(image):
    return image.replace(":", "_") + ".tar"


if __name__ == "__main__":
    for image, path in make().items():
        print(image, path)
