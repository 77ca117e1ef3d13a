"""Starting workflows from lines, against a real server and a real worker."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from written_workload import fleet_environment, write_workload

from temporal_fleet import Workload
from temporal_fleet.cli.start import TERMINATED
from temporal_fleet.errors import ConnectionFailedError, ExitCode, WorkloadError
from temporal_fleet.payloads import data_converter
from temporal_fleet.starting import LineResult, LineStatus, start_all
from temporal_fleet.starting.lines import LONGEST_LINE, TooLong
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

PERSON = SearchAttributeKey.for_keyword("Person")

TWO_STARTS = """
from temporal_fleet import WorkflowStart, Workload
from {package}.models import Greeting
from {package}.workflows import Greet


def greet_as(kind):
    return WorkflowStart(
        workflow=Greet, model=Greeting, workflow_id=lambda greeting: f"{{kind}}-{{greeting.name}}"
    )


workload = Workload(
    name="{name}", workflows=[Greet], start={{"one": greet_as("one"), "other": greet_as("other")}}
)
"""


@pytest.fixture
async def server() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server that knows the search attribute of the workload."""
    async with dev_server(search_attributes=[PERSON]) as environment:
        yield environment


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workload[Any, Any]]:
    """A workload that greets whoever a line names."""
    written = write_workload(tmp_path / "site", "greeting")
    monkeypatch.syspath_prepend(written.site)
    yield importlib.import_module("greeting").workload
    for name in [name for name in sys.modules if name.partition(".")[0] == "greeting"]:
        del sys.modules[name]


@asynccontextmanager
async def working(client: Client, workload: Workload[Any, Any]) -> AsyncIterator[None]:
    """Run a worker for the workload."""
    async with Worker(client, task_queue=workload.default_task_queue, workflows=workload.workflows):
        yield


async def lines(*greetings: dict[str, Any] | bytes) -> AsyncIterator[bytes | TooLong]:
    """Yield lines as a file would."""
    for each in greetings:
        yield each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n"


async def test_start_all_with_good_and_bad_lines_starts_the_good_ones(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """Bad lines are reported with their numbers; everything else is started and awaited."""
    found: list[LineResult] = []
    async with working(server.client, greeting):
        report = await start_all(
            server.client,
            greeting,
            lines(
                {"name": "ann"},
                b"\n",
                b'{"name": ',
                {"name": "bob", "wants": "plain"},
                {"name": "cid", "wants": "failure"},
                {"name": "dot", "wants": "nudge"},
                {"name": "eve", "priority": 0},
                {"name": "fay", "follow_up": "error"},
            ),
            wait=True,
            on_line=found.append,
        )
    by_line = {result.line: result for result in found}

    assert sorted(by_line) == [1, 3, 4, 5, 6, 7, 8]
    assert [by_line[n].outcome for n in (1, 4, 5, 6)] == [
        "greeted",
        "completed",
        "failed",
        "greeted",
    ]
    assert [by_line[n].status for n in (3, 7, 8)] == [
        LineStatus.REJECTED,
        LineStatus.REJECTED,
        LineStatus.FAILED,
    ]
    assert "no follow-up today" in (by_line[8].reason or "")
    assert "asked to fail" in str(by_line[5].result)
    assert by_line[1].duration
    assert by_line[1].duration > timedelta(0)
    assert len(report.start_latencies) == 5
    assert not report.ok


async def test_start_all_with_a_line_too_large_for_a_call_starts_the_others(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """A line above the limit of gRPC fails at once, since no later try can succeed."""
    async with asyncio.timeout(20):
        report = await start_all(
            server.client,
            greeting,
            lines({"name": "ann", "note": "x" * 5_000_000}, {"name": "bob"}),
        )

    assert report.counts == {LineStatus.FAILED: 1, LineStatus.STARTED: 1}
    assert "larger than max" in (report.rejected[0].reason or "")
    assert report.retries == 0


async def test_start_all_with_a_line_above_the_limit_rejects_it(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """A line that was too long to be kept is reported with its length and the limit."""

    async def read() -> AsyncIterator[bytes | TooLong]:
        yield TooLong(300_000_000)
        yield b'{"name": "ann"}'

    report = await start_all(server.client, greeting, read())

    assert report.counts == {LineStatus.REJECTED: 1, LineStatus.STARTED: 1}
    assert re.search(f"300000000 bytes.*{LONGEST_LINE}", report.rejected[0].reason or "")


@asynccontextmanager
async def starting(
    server: WorkflowEnvironment, site: Path, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``fleet start`` on lines from a pipe, with JSON on its standard output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", "start", "greeting", "-", "--output", "json"),
        *arguments,
        env=fleet_environment(
            site, TEMPORAL_ADDRESS=server.client.service_client.config.target_host
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_start_command_when_terminated_prints_its_summary(
    server: WorkflowEnvironment, greeting: Workload[Any, Any], tmp_path: Path
) -> None:
    """SIGTERM ends it as Ctrl-C does: what was started is told."""
    async with starting(server, tmp_path / "site") as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b'{"name": "ann"}\n')
        first = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest = json.loads(await process.stdout.read())
        code = await process.wait()

    assert first["workflow_id"] == "greeting-ann"
    assert rest["summary"]["started"] == 1
    assert code == TERMINATED


async def test_start_command_when_the_core_logs_prints_nothing_but_json(
    server: WorkflowEnvironment, greeting: Workload[Any, Any], tmp_path: Path
) -> None:
    """What the SDK's core says about a large payload is on standard error."""
    async with starting(server, tmp_path / "site") as process:
        line = json.dumps({"name": "ann", "note": "x" * 600_000}).encode()
        output, errors = await process.communicate(line)

    assert [*map(json.loads, output.splitlines())][-1]["summary"]["started"] == 1
    assert b"payloads" in errors


async def test_start_command_with_a_failure_tells_its_causes(
    server: WorkflowEnvironment, greeting: Workload[Any, Any], tmp_path: Path
) -> None:
    """The result of a workflow that failed holds the messages of all that led to it."""
    async with (
        working(server.client, greeting),
        starting(server, tmp_path / "site", "--wait", "--timeout", "1m") as process,
    ):
        output, _ = await process.communicate(b'{"name": "ann", "wants": "failure"}')

    assert (
        json.loads(output.splitlines()[0])["result"]
        == "AskedToFail: asked to fail: ValueError: no reason"
    )


async def test_start_all_of_the_same_lines_again_starts_nothing(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """A second run recognises running and finished workflows, and shows their results."""
    async with working(server.client, greeting):
        first = await start_all(server.client, greeting, lines({"name": "ann"}), wait=True)
        waiting = await start_all(server.client, greeting, lines({"name": "bob", "wants": "time"}))
        again = await start_all(
            server.client,
            greeting,
            lines({"name": "ann"}, {"name": "bob", "wants": "time"}),
            wait=True,
            wait_timeout=timedelta(seconds=0.5),
        )

    assert first.counts == {LineStatus.STARTED: 1}
    assert waiting.counts == {LineStatus.STARTED: 1}
    assert again.counts == {LineStatus.ALREADY_THERE: 2}
    assert again.outcomes == {"greeted": 1, "still running": 1}
    assert not again.ok


async def test_start_all_for_a_running_workflow_delivers_its_follow_up_again(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """A run that was interrupted before a follow-up is made whole by the next run."""
    assert greeting.start
    client = server.client
    await client.start_workflow(
        "Greet", {"name": "dot", "wants": "nudge"}, id="greeting-dot", task_queue="greeting"
    )
    async with working(client, greeting):
        report = await start_all(
            client, greeting, lines({"name": "dot", "wants": "nudge"}), wait=True
        )

    assert report.outcomes == {"greeted": 1}


async def test_start_all_with_a_known_search_attribute_sets_it(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """Search attributes that the server has are set."""
    await start_all(server.client, greeting, lines({"name": "ann"}))
    description = await server.client.get_workflow_handle("greeting-ann").describe()

    assert description.typed_search_attributes.get(PERSON) == "ann"


async def test_start_all_with_an_unknown_search_attribute_leaves_it_out(
    greeting: Workload[Any, Any],
) -> None:
    """A server without the search attribute gets the workflow without it."""
    async with dev_server() as server:
        report = await start_all(server.client, greeting, lines({"name": "ann"}))

    assert report.counts == {LineStatus.STARTED: 1}


async def test_start_all_with_a_rate_takes_its_time(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """Twenty starts a second take at least half a second for twelve lines."""
    report = await start_all(
        server.client, greeting, lines(*({"name": f"n{i}"} for i in range(12))), rate=20
    )

    assert report.elapsed >= timedelta(seconds=0.4)
    assert report.counts == {LineStatus.STARTED: 12}


async def test_start_all_in_a_missing_namespace_fails_with_the_name(
    server: WorkflowEnvironment, greeting: Workload[Any, Any]
) -> None:
    """A namespace that does not exist ends the run at once and is named."""
    address = server.client.service_client.config.target_host
    client = await Client.connect(address, namespace="nowhere", data_converter=data_converter())

    with pytest.raises(ConnectionFailedError, match="nowhere"):
        await start_all(client, greeting, lines({"name": "ann"}))


async def test_start_all_while_the_server_restarts_goes_on_afterwards(
    tmp_path: Path, greeting: Workload[Any, Any]
) -> None:
    """Starts that meet a server that is away are repeated until it is back."""
    from temporal_fleet.dev.server import embedded_server
    from temporal_fleet.ports import free_port

    port = free_port()
    gate = asyncio.Event()

    async def interrupted() -> AsyncIterator[bytes | TooLong]:
        yield b'{"name": "before"}'
        await gate.wait()
        yield b'{"name": "after"}'

    async with embedded_server(tmp_path, port=port, headless=True) as server:
        run = asyncio.create_task(start_all(server.client, greeting, interrupted()))
    gate.set()
    async with embedded_server(tmp_path, port=port, headless=True) as server:
        report = await run
        description = await server.client.get_workflow_handle("greeting-after").describe()

    assert description.id == "greeting-after"
    assert report.counts[LineStatus.STARTED] >= 1


async def test_start_command_with_a_name_uses_that_start(
    server: WorkflowEnvironment, tmp_path: Path
) -> None:
    """A workload may declare several starts by name; the command is told which one, and lists them if not."""
    written = write_workload(tmp_path / "site", "greeting")
    written.write("__init__.py", TWO_STARTS)
    async with starting(server, tmp_path / "site", "--start", "other") as process:
        output, _ = await process.communicate(b'{"name": "ann"}\n')
    async with starting(server, tmp_path / "site") as process:
        _, errors = await process.communicate(b'{"name": "ann"}\n')

    assert json.loads(output.splitlines()[0])["workflow_id"] == "other-ann"
    assert b"has several starts: one, other. Choose one with --start NAME" in errors
    assert process.returncode == ExitCode.STARTUP


async def test_start_all_for_a_workload_without_start_says_what_to_declare(
    server: WorkflowEnvironment,
) -> None:
    """A workload that starts nothing from files is told how it could."""
    with pytest.raises(WorkloadError, match=r"Declare Workload.start=WorkflowStart"):
        await start_all(server.client, Workload(name="bare"), lines())
