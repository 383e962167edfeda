"""Objects as a person would write them, with what a test is not about filled in."""


def container(image="busybox", script=None, name="main", **fields):
    """A container; with `script`, a shell runs it."""
    made = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **fields}
    if script is not None:
        made["command"] = ["sh", "-c", script]
    return made


def pod(name, *containers, labels=None, **spec):
    """A pod that ends at once when told to."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }


def once(name, script, image="busybox", **spec):
    """A pod that runs a script to its end."""
    return pod(name, container(image, script), restartPolicy="Never", **spec)


def sleeper(name, **spec):
    """A pod with a shell to exec into."""
    return pod(name, container(script="trap exit TERM; sleep infinity & wait"), **spec)


def deployment(name, *containers, replicas=1, spec=None, **fields):
    template = pod(name, *containers)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {**template["spec"], **(spec or {})},
            },
            **fields,
        },
    }


def service(name, *ports, **spec):
    """Each port is a number, or what `spec.ports` holds."""
    ports = [port if isinstance(port, dict) else {"port": port} for port in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name, **data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


READY = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
