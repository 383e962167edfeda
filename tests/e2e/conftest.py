"""What the end-to-end tests share: a registry, a cluster for all of them, and a namespace for each."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import cluster as clusters  # noqa: E402
import images  # noqa: E402
import kubectl  # noqa: E402
import registry as registries  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def root():
    if os.geteuid():
        pytest.exit("the end-to-end tests make clusters, which takes root", 2)
    if not clusters.program().exists():
        pytest.exit(f"there is no {clusters.program()}; make it with: make build", 2)


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """Stands for docker.io, all test images in it."""
    registry = registries.Registry(tmp_path_factory.mktemp("registry") / "docker.io")
    try:
        for image in images.RECIPES:
            registry.push(image)
        yield registry
    finally:
        registry.close()


@pytest.fixture(scope="session")
def mirror(registry):
    return "--registry-mirror", f"docker.io={registry.url}"


@pytest.fixture(scope="session")
def new_cluster(tmp_path_factory):
    """Names and prepares clusters, and takes away what is left of them."""
    made = []

    def new(name, **options):
        cluster = clusters.Cluster(f"e2e-{name}", tmp_path_factory.mktemp(name), **options)
        made.append(cluster)
        return cluster

    yield new
    for cluster in made:
        cluster.delete()


@pytest.fixture(scope="session")
def cluster(new_cluster, mirror):
    cluster = new_cluster("main")
    cluster.start(*mirror)
    return cluster


@pytest.fixture
def namespace(cluster, request):
    """A namespace named after the test."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:50]
    cluster.kubectl("create", "namespace", name)
    yield name
    # Pods that take their time needn't be waited for.
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kube(cluster, namespace):
    """kubectl 1.36 in the test's own namespace."""
    return cluster.kubectl.within(namespace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and call.excinfo and not call.excinfo.errisinstance(pytest.exit.Exception):
        for standing in clusters.STANDING:
            report.sections.extend(standing.report())
    return report


def pytest_report_header():
    lines = [f"tug: {clusters.program()}"]
    for program in filter(None, [kubectl.stock(), kubectl.installed()]):
        done = subprocess.run([program, "version", "--client"], capture_output=True, text=True, check=False)
        lines.append(f"{program}: {done.stdout.splitlines()[0] if done.stdout else done.stderr}")
    return lines
