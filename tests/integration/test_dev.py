"""``fleet dev`` as a developer uses it: real server, real workers, real files that change."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from temporalio.client import Client
from written_workload import MODELS, WORKFLOWS, WrittenWorkload, fleet_environment, write_workload

from temporal_fleet.errors import ExitCode
from temporal_fleet.payloads import data_converter
from temporal_fleet.testing import dev_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

READY = "drains and stops everything"


class Development:
    """A running ``fleet dev`` and what it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        async for raw in self.process.stdout:
            async with self._grown:
                self.lines.append(raw.decode().rstrip())
                self._grown.notify_all()

    async def printed(self, pattern: str, times: int = 1) -> str:
        """Wait until a pattern was printed so many times; returns the last of these lines."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        try:
            async with asyncio.timeout(60), self._grown:
                await self._grown.wait_for(lambda: len(found()) >= times)
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in:\n" + "\n".join(self.lines)) from None
        return found()[times - 1]

    async def exit_code(self) -> int:
        """Wait for the end."""
        async with asyncio.timeout(60):
            await self._reader
            return await self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes, which are forks of a template."""
        mine = psutil.Process(self.process.pid).children()
        return [fork for each in mine for fork in each.children()]


@asynccontextmanager
async def developing(site: Path, directory: Path, *arguments: str) -> AsyncIterator[Development]:
    """Run ``fleet dev`` in a directory; it is killed at the end if need be."""
    directory.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", "dev", "--headless", *arguments),
        cwd=directory,
        env=fleet_environment(site),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    development = Development(process)
    try:
        yield development
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
def greeting(tmp_path: Path) -> WrittenWorkload:
    """An installed workload."""
    return write_workload(tmp_path / "site", "greeting")


async def client_of(directory: Path) -> Client:
    """Return a client of the server of a ``fleet dev``."""
    holder = json.loads((directory / ".fleet" / "server.lock").read_text())
    return await Client.connect(holder["address"], data_converter=data_converter())


async def greet(directory: Path, name: str) -> str:
    """Run one workflow on the server of a ``fleet dev``; returns its text."""
    client = await client_of(directory)
    result = await client.execute_workflow(
        "Greet", {"name": name}, id=f"greet-{name}", task_queue="greeting", result_type=dict
    )
    return str(result["text"])


def write_library(site: Path, name: str, code: str) -> None:
    """Write a library of one module into the directory of a workload."""
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(code)
    (site / f"{name}-1.0.dist-info").mkdir()
    (site / f"{name}-1.0.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    )


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def say(greeting: WrittenWorkload, text: str) -> None:
    """Change the code of the workload."""
    greeting.write("workflows.py", WORKFLOWS.replace('"hello"', f'"{text}"'))


async def test_dev_when_code_changes_runs_the_new_code(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A change is shown with its file and is in effect as soon as that is printed."""
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        await dev.printed(READY)
        before = await greet(tmp_path / "here", "ann")
        say(greeting, "howdy")
        line = await dev.printed("restarted in")
        after = await greet(tmp_path / "here", "bob")
        dev.process.send_signal(signal.SIGINT)
        code = await dev.exit_code()

    assert any(line.endswith("fleet start greeting FILE") for line in dev.lines)
    assert (before, after) == ("hello ann", "howdy bob")
    assert re.search(r"↻ greeting: 1 file changed \(workflows\.py\) → restarted in \d", line)
    assert code == ExitCode.OK
    assert dev.lines[-1] == "fleet    │ stopped"


async def test_dev_when_code_changes_keeps_the_health_address(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """The address that was printed at the start leads to the new process after a reload."""
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        line = await dev.printed("health http")
        await dev.printed(READY)
        url = line.partition("health ")[2].replace("readyz?verbose", "metrics")
        before = await process_start_time(url)
        say(greeting, "howdy")
        await dev.printed("restarted in")
        after = await process_start_time(url)

    assert before < after


async def process_start_time(url: str) -> float:
    """Return when the process that answers at a health address started, in seconds since 1970."""

    def ask() -> str:
        with urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    found = re.search(r"^process_start_time_seconds\S* (\S+)$", await asyncio.to_thread(ask), re.M)
    assert found
    return float(found[1])


def break_syntax(greeting: WrittenWorkload) -> None:
    """Save a file in the midst of a change."""
    greeting.write("workflows.py", WORKFLOWS + "\nthis is no Python\n")


def break_import(greeting: WrittenWorkload) -> None:
    """Change one file well, and another so that it cannot be imported."""
    greeting.write("models.py", "import no_such_module")
    say(greeting, "howdy")


def take_away(greeting: WrittenWorkload) -> None:
    """Remove a file that others import."""
    (greeting.package / "workflows.py").unlink()


@pytest.mark.parametrize(
    ("break_code", "error"),
    [
        (break_syntax, "SyntaxError"),
        (break_import, "No module named 'no_such_module'"),
        (take_away, r"No module named 'greeting\.workflows'"),
    ],
)
async def test_dev_with_broken_code_runs_the_old_code_until_it_is_mended(
    break_code: Callable[[WrittenWorkload], None],
    error: str,
    greeting: WrittenWorkload,
    tmp_path: Path,
) -> None:
    """Code that cannot be imported is shown and replaces nothing, neither in the process nor in workflows."""
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        await dev.printed(READY)
        (before,) = dev.workers()
        break_code(greeting)
        await dev.printed("the old code keeps running")
        during = [each for each in dev.workers() if each.status() != "zombie"]
        old = await greet(tmp_path / "here", "ann")
        greeting.write("models.py", MODELS)
        say(greeting, "mended")
        await dev.printed("restarted in")
        new = await greet(tmp_path / "here", "bob")

    assert during == [before]
    assert (old, new) == ("hello ann", "mended bob")
    assert any(re.search(error, line) for line in dev.lines)


async def test_dev_with_broken_code_from_the_start_waits_for_it_to_be_mended(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A workload that never started is started when its code changes."""
    greeting.write("workflows.py", "import no_such_module")
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        await dev.printed("trying again when its code changes")
        await dev.printed("greeting .* does not run")
        say(greeting, "mended")
        await dev.printed("restarted in")
        text = await greet(tmp_path / "here", "ann")

    assert text == "mended ann"


async def test_dev_when_a_local_library_changes_runs_its_new_code(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A library that a workload requires is part of its code, as is a directory that was named."""
    write_library(greeting.site, "wording", 'TEXT = "hello"')
    with (greeting.site / "greeting-1.0.dist-info" / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: wording\n")
    greeting.write("workflows.py", WORKFLOWS.replace('TEXT = "hello"', "from wording import TEXT"))
    (tmp_path / "named").mkdir()
    arguments = ("--workload", "greeting", "--watch", str(tmp_path / "named"))
    async with developing(greeting.site, tmp_path / "here", *arguments) as dev:
        await dev.printed(READY)
        (greeting.site / "wording" / "__init__.py").write_text('TEXT = "howdy"')
        line = await dev.printed("restarted in")
        text = await greet(tmp_path / "here", "ann")
        (tmp_path / "named" / "data.txt").touch()
        named = await dev.printed("restarted in", times=2)

    assert "wording/__init__.py" in line
    assert text == "howdy ann"
    assert "named/data.txt" in named


async def run_beside(directory: Path, site: Path, *arguments: str) -> tuple[str, str]:
    """Run a ``fleet`` command in a directory; returns its standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", *arguments),
        cwd=directory,
        env=fleet_environment(site, FLEET_CONNECTION_DEADLINE_SECONDS="1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return output.decode(), errors.decode()


async def test_dev_server_is_found_by_commands_in_its_directory_only(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """Without an address, a command uses the server that runs here, and says which one it uses."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = ("queue", "greeting", "--output", "json")
    async with developing(greeting.site, here, "--workload", "greeting") as dev:
        await dev.printed(READY)
        address = json.loads((here / ".fleet" / "server.lock").read_text())["address"]
        found, said = await run_beside(here, greeting.site, *command)
        _, said_elsewhere = await run_beside(elsewhere, greeting.site, *command)
        dev.process.send_signal(signal.SIGKILL)
        await dev.process.wait()
        _, said_afterwards = await run_beside(here, greeting.site, *command)

    assert json.loads(found)
    assert f"Temporal server {address} (of fleet dev in this directory)" in said
    for each in (said_elsewhere, said_afterwards):
        assert "Temporal server localhost:7233 (the default" in each


async def test_dev_with_reset_forgets_earlier_workflows(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A workflow ID that was used before the reset is free again."""
    arguments = (greeting.site, tmp_path / "here", "--workload", "greeting", "--no-reload")
    async with developing(*arguments) as dev:
        await dev.printed(READY)
        await greet(tmp_path / "here", "ann")
        dev.process.send_signal(signal.SIGTERM)
        await dev.exit_code()
    async with developing(*arguments, "--reset") as dev:
        await dev.printed(READY)
        known = [each async for each in (await client_of(tmp_path / "here")).list_workflows()]

    assert known == []


async def test_dev_when_what_a_workload_needs_appears_starts_it_by_itself(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A workload that needs what is not there yet is tried again without a change of its code."""
    greeting.write("models.py", "import needed\n" + MODELS)
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        await dev.printed("trying again when its code changes")
        (greeting.site / "needed.py").touch()
        await dev.printed("greeting: started in")
        text = await greet(tmp_path / "here", "ann")

    assert text == "hello ann"


async def test_dev_when_a_worker_is_killed_starts_it_again(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A crash is shown and the worker comes back."""
    async with developing(
        greeting.site, tmp_path / "here", "--workload", "greeting", "--no-reload"
    ) as dev:
        await dev.printed(READY)
        (worker,) = dev.workers()
        worker.kill()
        await dev.printed("greeting: ended with status -9; restarting in 1 s")
        await dev.printed("ended with status -9 .*restarted in")
        text = await greet(tmp_path / "here", "ann")

    assert text == "hello ann"


async def test_dev_for_several_workloads_restarts_only_the_one_that_changed(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """Other workloads do not notice."""
    write_workload(greeting.site, "other")
    arguments = ("--workload", "greeting", "--workload", "other")
    async with developing(greeting.site, tmp_path / "here", *arguments) as dev:
        await dev.printed(READY)
        before = dev.workers()
        say(greeting, "howdy")
        await dev.printed("restarted in")
        async with asyncio.timeout(20):
            while sum(map(is_alive, before)) != 1:
                await asyncio.sleep(0.05)
        await dev.printed("greeting │.*drained")

    assert len(before) == 2
    assert not any("other: 1 file" in line for line in dev.lines)


async def test_dev_twice_in_one_directory_names_the_first(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """The second is told who runs already and where."""
    arguments = (greeting.site, tmp_path / "here", "--workload", "greeting")
    async with developing(*arguments) as first:
        await first.printed(READY)
        async with developing(*arguments) as second:
            line = await second.printed("already runs in")
            code = await second.exit_code()

    assert f"process {first.process.pid}" in line
    assert code == ExitCode.STARTUP


async def test_dev_for_a_workload_that_is_not_installed_names_the_installed(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A wrong name is answered with the right ones."""
    async with developing(greeting.site, tmp_path / "here", "--workload", "greting") as dev:
        line = await dev.printed("greting")
        code = await dev.exit_code()

    assert "greeting" in line.partition("installed:")[2]
    assert code == ExitCode.STARTUP


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that a parent ended")
async def test_dev_killed_leaves_no_process_behind(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """Server, template, workers and their helpers end with the process that started them."""
    async with developing(greeting.site, tmp_path / "here", "--workload", "greeting") as dev:
        await dev.printed(READY)
        family = psutil.Process(dev.process.pid).children(recursive=True)
        dev.process.kill()
        await dev.process.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 20)

    assert len(family) >= 3
    assert alive == []


async def test_dev_with_another_server_uses_it_and_starts_none(
    greeting: WrittenWorkload, tmp_path: Path
) -> None:
    """A server that already runs is used, and no second one is started."""
    async with dev_server() as server:
        address = server.client.service_client.config.target_host
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "temporal_fleet", "dev"),
            *("--server", address, "--workload", "greeting"),
            cwd=tmp_path,
            env=fleet_environment(greeting.site),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        dev = Development(process)
        await dev.printed(READY)
        result = await server.client.execute_workflow(
            "Greet", {"name": "ann"}, id="greet", task_queue="greeting", result_type=dict
        )
        process.send_signal(signal.SIGTERM)
        code = await dev.exit_code()

    assert result["text"] == "hello ann"
    assert code == ExitCode.OK
    assert not (tmp_path / ".fleet").exists()
