"""Every kind of volume that a pod can mount."""

import pytest
from manifests import config_map, container, once, pod, secret
from wait import until


def mounted(name, volume, script, mount=None, **spec):
    """A pod that runs a script with one volume at /v."""
    mounts = [{"name": "v", "mountPath": "/v", **(mount or {})}]
    volumes = [{"name": "v", **volume}]
    return pod(name, container(script=script, volumeMounts=mounts), volumes=volumes, restartPolicy="Never", **spec)


def output(kube, *pods):
    """What pods printed that ran to their good end."""
    kube.apply(*pods)
    printed = []
    for each in pods:
        name = each["metadata"]["name"]
        kube.wait(f"pod {name}", ".status.phase=Succeeded")
        printed.append(kube("logs", name))
    return printed


def test_empty_dir(kube):
    plain, memory = output(
        kube,
        mounted("plain", {"emptyDir": {}}, "ls -A /v; stat -c %a /v; echo x > /v/x; cat /v/x"),
        mounted("memory", {"emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}, "mount | grep ' /v '; df -k /v"),
    )
    assert plain == "777\nx\n"
    assert " on /v type tmpfs " in memory and " 16384 " in memory


def test_who_takes_too_much_of_the_disk_is_evicted(kube):
    """In the words of upstream's eviction manager (`localStorageEviction`), trailing blank and all."""

    def taker(megabytes, limit=None, path="/big", **fields):
        resources = {"limits": {"ephemeral-storage": limit}} if limit else {}
        fill = f"dd if=/dev/zero of={path} bs=1M count={megabytes} 2>&1; sleep infinity"
        return container(script=fill, resources=resources, **fields)

    cache = {"volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]}
    mounts = [{"name": "cache", "mountPath": "/cache"}]
    kube.apply(
        pod("volume", taker(2, path="/cache/big", volumeMounts=mounts), **cache),
        pod("layer", taker(2, "1Mi")),
        pod("log", container(script="yes | head -c 2000000; sleep infinity", resources=taker(0, "1Mi")["resources"])),
        pod("one-of-two", taker(2, "1Mi"), taker(0, "100Mi", name="other")),
        pod("modest", taker(2, "10Mi")),
    )
    total = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    messages = {
        "volume": 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". ',
        "layer": total,
        "log": total,
        "one-of-two": 'Container main exceeded its local ephemeral storage limit "1Mi". ',
    }
    for name, message in messages.items():
        kube.wait(f"pod {name}", ".status.phase=Failed")
        status = kube.get("pod", name)["status"]
        assert (status["reason"], status["message"]) == ("Evicted", message)
        assert "running" not in status["containerStatuses"][0]["state"]
        until(lambda: ("Evicted", message) in kube.events(name), "an event says so")  # noqa: B023
    assert kube.path("pod modest", ".status.phase") == "Running"


@pytest.fixture
def host_folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def test_host_path_is_the_hosts_path(kube, host_folder):
    (host_folder / "file").write_text("from the host\n")
    path = {"path": str(host_folder)}
    read, made, file = output(
        kube,
        mounted("read", {"hostPath": path}, "cat /v/file; echo from the pod > /v/back"),
        mounted("made", {"hostPath": {"path": f"{host_folder}/new", "type": "DirectoryOrCreate"}}, "touch /v/x; ls /v"),
        mounted("file", {"hostPath": {"path": f"{host_folder}/file", "type": "File"}}, "cat /v"),
    )
    assert (read, made, file) == ("from the host\n", "x\n", "from the host\n")
    assert (host_folder / "back").read_text() == "from the pod\n"
    assert (host_folder / "new/x").exists()
    kube.apply(mounted("wrong", {"hostPath": {**path, "type": "File"}}, "true"))
    message = until(lambda: dict(kube.events("wrong")).get("FailedMount"), "an event tells of the type")
    assert "hostPath type check failed" in message and "is not a file" in message


@pytest.mark.parametrize("volume", ["emptyDir", "hostPath"])
def test_mounts_spread_between_containers_as_asked(kube, host_folder, volume):
    """A mount made in a container below a Bidirectional one shows where HostToContainer asks for it, else not."""
    makes = """trap 'umount /v/m; exit' TERM; until [ -e /v/sees -a -e /v/alone ]; do sleep 0.1; done
        mkdir /v/m; mount -t tmpfs none /v/m; touch /v/m/file /v/made; sleep inf & wait"""
    looks = "touch /v/$0; until [ -e /v/made ]; do sleep 0.1; done; echo there: $(ls /v/m); sleep inf"

    def has(name, script, spread=None, **fields):
        mount = {"name": "v", "mountPath": "/v", **({"mountPropagation": spread} if spread else {})}
        return container(name=name, command=["sh", "-c", script, name], volumeMounts=[mount], **fields)

    containers = [
        has("makes", makes, "Bidirectional", securityContext={"privileged": True}),
        has("sees", looks, "HostToContainer"),
        has("alone", looks),
    ]
    name = f"spreads-{volume.lower()}"
    source = {"path": str(host_folder)} if volume == "hostPath" else {}
    kube.apply(pod(name, *containers, volumes=[{"name": "v", volume: source}]))
    for each, seen in {"sees": "there: file\n", "alone": "there:\n"}.items():
        until(lambda: kube("logs", name, "-c", each) == seen, f"{each} has looked")
    kube("delete", "pod", name)


def test_config_map(kube):
    kube.apply(config_map("settings", one="1", two="2"))
    some = {"name": "settings", "items": [{"key": "two", "path": "deep/er", "mode": 0o400}]}
    whole, part, none = output(
        kube,
        mounted("whole", {"configMap": {"name": "settings"}}, "cd /v; grep . *; stat -Lc %a one"),
        mounted(
            "part", {"configMap": some}, "cd /v; find . -name 'er' | head -1; cat deep/er; stat -Lc %a deep/er; ls"
        ),
        mounted("none", {"configMap": {"name": "missing", "optional": True}}, "ls /v"),
    )
    assert whole == "one:1\ntwo:2\n644\n"
    assert part.endswith("2400\ndeep\n")
    assert none == ""


def test_a_changed_config_map_reaches_the_pod(kube):
    kube.apply(config_map("settings", a="old"))
    volume = {"configMap": {"name": "settings"}}
    kube.apply(mounted("follows", volume, "until grep -q new /v/a; do sleep 0.2; done; echo seen"))
    kube.wait("pod follows", "condition=Ready")
    kube.apply(config_map("settings", a="new"))
    kube.wait("pod follows", ".status.phase=Succeeded", timeout=120)


def test_a_missing_config_map_or_secret_is_waited_for(kube):
    kube.apply(
        mounted("waits", {"configMap": {"name": "late"}}, "cat /v/a"),
        mounted("hopes", {"secret": {"secretName": "hidden"}}, "cat /v/a"),
    )
    for name, message in [("waits", 'configmap "late" not found'), ("hopes", 'secret "hidden" not found')]:
        until(lambda: message in dict(kube.events(name)).get("FailedMount", ""), f"an event says {message}")
    kube.apply(config_map("late", a="there"), secret("hidden", a="too"))
    kube.wait("pods --all", ".status.phase=Succeeded", timeout=120)


def test_secret(kube):
    kube.apply(secret("keys", key="hush"))
    volume = {"secret": {"secretName": "keys", "defaultMode": 0o440}}
    script = "cat /v/key; stat -Lc ' %a' /v/key; mount | grep ' /v ' | cut -d' ' -f5; { echo x > /v/key; } 2> /dev/null || echo read-only"
    (text,) = output(kube, mounted("reads", volume, script))
    assert text == "hush 440\ntmpfs\nread-only\n"


def test_downward_api(kube):
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}},
    ]
    told = mounted("told", {"downwardAPI": {"items": items}}, "cd /v; grep . labels name cpu")
    told["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "250m"}}
    (text,) = output(kube, told)
    assert text == 'labels:app="told"\nname:told\ncpu:250\n'


def test_projected(kube):
    kube.apply(config_map("settings", a="1"), secret("keys", b="2"))
    sources = [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys", "items": [{"key": "b", "path": "hidden/b"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token", "audience": "somebody", "expirationSeconds": 3600}},
    ]
    (text,) = output(kube, mounted("all", {"projected": {"sources": sources}}, "cd /v; ls; cat a hidden/b name"))
    assert text == "a\nhidden\nname\ntoken\n12all"


def test_sub_paths_and_read_only_mounts(kube, host_folder):
    kube.apply(config_map("settings", **{"app.conf": "x=1"}))
    mounts = [
        {"name": "settings", "mountPath": "/etc/app.conf", "subPath": "app.conf"},
        {"name": "data", "mountPath": "/data", "subPath": "made/for/it"},
        {"name": "data", "mountPath": "/mine", "subPathExpr": "$(POD)"},
        {"name": "data", "mountPath": "/look", "readOnly": True},
    ]
    script = "cat /etc/app.conf; touch /data/x /mine/y; find /look | sort; touch /look/z 2>&1"
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    kube.apply(
        pod(
            "parts",
            container(script=script + "; true", volumeMounts=mounts, env=env),
            volumes=[
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "data", "hostPath": {"path": str(host_folder)}},
            ],
            restartPolicy="Never",
        )
    )
    kube.wait("pod parts", ".status.phase=Succeeded")
    lines = kube("logs", "parts").splitlines()
    paths = ["/look", "/look/made", "/look/made/for", "/look/made/for/it", "/look/made/for/it/x", "/look/parts"]
    assert lines == ["x=1" + paths[0], *paths[1:], "/look/parts/y", "touch: /look/z: Read-only file system"]


def test_containers_share_a_volume_and_keep_it_over_restarts(kube):
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    kube.apply(
        pod(
            "pair",
            container(
                script="echo run >> /v/log; test $(wc -l < /v/log) -ge 2 || exit 1; sleep inf", name="a", **mounts
            ),
            container(script="until test -e /v/log; do sleep 0.1; done; sleep inf", name="b", **mounts),
            volumes=[{"name": "v", "emptyDir": {}}],
        )
    )
    kube.wait("pod pair", ".status.containerStatuses[0].restartCount=1")
    kube.wait("pod pair", "condition=Ready")
    assert kube.sh("pair", "cat /v/log", "-c", "b") == "run\nrun\n"


def test_volumes_go_with_their_pod(cluster, kube):
    kube.apply(mounted("short", {"emptyDir": {"medium": "Memory"}}, "sleep inf"), once("peer", "true"))
    kube.wait("pod short", "condition=Ready")
    uid = kube.path("pod short", ".metadata.uid")
    assert uid in cluster.ssh("ls /var/lib/tug/node/pods")
    kube("delete", "pod", "short")
    until(lambda: uid not in cluster.ssh("ls /var/lib/tug/node/pods; cat /proc/mounts"), "folder and mounts are gone")


def test_file_owners(kube):
    script = "stat -c '%g %a' /v; id -G; touch /v/x; stat -c %g /v/x"
    context = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2345}
    (text,) = output(kube, mounted("owned", {"emptyDir": {}}, script, securityContext=context))
    assert text == "2345 2777\n1000 2345\n2345\n"
