"""What cluster tests share: the cluster, one Temporal server, and for each test namespaces of its own.

Nothing here knows which cluster it is: KUBECONFIG says so, and `make e2e-images` has loaded the images.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_cluster import Namespace, Release
from e2e_rollout import Laptop
from e2e_temporal import PORT, SERVER, TemporalNamespace, connect, server_objects
from e2e_values import FleetValues, Images

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / ".cache" / "e2e" / "images.json"
FAILURES = ROOT / "dist" / "e2e"
RUN_LABEL = "temporal-fleet.test/run"
FAILED = pytest.StashKey[str]()
CLEANING_SECONDS = 120

# Imported by the controlling process first, whose environment the processes of pytest-xdist inherit.
RUN = os.environ.setdefault("E2E_RUN", uuid.uuid4().hex[:6])


def kubectl(*arguments: str, stdin: str = "", check: bool = True) -> str:
    """Run kubectl where there is no event loop."""
    completed = subprocess.run(
        ["kubectl", *arguments], input=stdin, check=False, capture_output=True, text=True
    )
    assert not check or completed.returncode == 0, f"kubectl {arguments}: {completed.stderr}"
    return completed.stdout


def namespace_object(name: str) -> dict[str, Any]:
    """Return a namespace in which Pod Security refuses every pod that is not "restricted"."""
    labels = {
        RUN_LABEL: RUN,
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which tests failed and how, for what is done after them."""
    report = yield
    if report.failed:
        item.stash[FAILED] = report.longreprtext
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete all namespaces of this run, once, when every process is done."""
    if hasattr(session.config, "workerinput") or not os.environ.get("KUBECONFIG"):
        return
    arguments = ("--selector", f"{RUN_LABEL}={RUN}", f"--timeout={CLEANING_SECONDS}s")
    kubectl("delete", "namespaces", *arguments, check=False)


@pytest.fixture(scope="session")
def images() -> Images:
    """The images that the cluster has."""
    missing = None
    if not os.environ.get("KUBECONFIG"):
        missing = "KUBECONFIG is not set: there is no cluster to test on"
    elif not IMAGES.exists():
        missing = "the images are not built: run `make e2e-images`"
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return Images.read(IMAGES)


@pytest.fixture(scope="session")
def server_namespace(images: Images) -> str:
    """The Kubernetes namespace of the Temporal server; whoever comes first starts it."""
    name = f"fleet-e2e-{RUN}"
    apply = ("apply", "--server-side", "--filename", "-")
    kubectl(*apply, stdin=json.dumps(namespace_object(name)))
    labels = {RUN_LABEL: RUN}
    objects = {
        "apiVersion": "v1",
        "kind": "List",
        "items": server_objects(images.reference("dev-server"), labels),
    }
    kubectl("--namespace", name, *apply, stdin=json.dumps(objects))
    kubectl("--namespace", name, "rollout", "status", f"deployment/{SERVER}", "--timeout=120s")
    return name


@pytest.fixture(scope="session")
def server_port(server_namespace: str) -> Iterator[int]:
    """A port of this machine that leads to the Temporal server."""
    command = ["kubectl", "--namespace", server_namespace, "port-forward", f"service/{SERVER}"]
    process = subprocess.Popen([*command, f":{PORT}"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        first = process.stdout.readline()
        match = re.search(r"127\.0\.0\.1:(\d+)", first)
        assert match, f"no port was forwarded to the Temporal server: {first}"
        yield int(match[1])
        process.kill()


@pytest.fixture
async def namespace(
    request: pytest.FixtureRequest, server_namespace: str
) -> AsyncIterator[Namespace]:
    """A Kubernetes namespace that enforces Pod Security "restricted"; what failed in it is written down."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    made = Namespace(f"{server_namespace}-{test[:36].strip('-')}-{uuid.uuid4().hex[:4]}")
    await made.apply(namespace_object(made.name))
    yield made
    if failure := request.node.stash.get(FAILED, ""):
        text = await made.snapshot()
        FAILURES.mkdir(parents=True, exist_ok=True)
        (FAILURES / f"{made.name}.txt").write_text(f"{failure}\n\n{text}")
        print(text)
    await made.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
async def temporal(
    namespace: Namespace, server_namespace: str, server_port: int
) -> TemporalNamespace:
    """A namespace of the Temporal server."""
    address = f"{SERVER}.{server_namespace}.svc:{PORT}"
    return await connect(server_port, namespace.name, address)


@pytest.fixture
def values(images: Images, temporal: TemporalNamespace) -> FleetValues:
    """Makes values of the chart."""
    return FleetValues(images, temporal)


@pytest.fixture
def release(namespace: Namespace) -> Release:
    """The release of the test; its name is ``fleet``."""
    return Release(namespace)


@pytest.fixture
def laptop(temporal: TemporalNamespace, namespace: Namespace, tmp_path: Path) -> Laptop:
    """Where people run ``fleet rollout``."""
    return Laptop(temporal, namespace, tmp_path)
