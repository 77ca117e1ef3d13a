"""The embedded server, started for real."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

from temporal_fleet.dev.lock import AlreadyRunningError
from temporal_fleet.dev.server import ServerFailedError, embedded_server
from temporal_fleet.errors import PortInUseError
from temporal_fleet.ports import free_port

pytestmark = pytest.mark.integration

OWNER = """
import asyncio, pathlib, sys
from temporal_fleet.dev.server import embedded_server

async def main():
    async with embedded_server(pathlib.Path(sys.argv[1])) as server:
        print(server.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_embedded_server_while_it_runs_answers_with_its_search_attributes(
    tmp_path: Path,
) -> None:
    """A server registers what it is asked to, serves its UI and leaves a profile for tools."""
    key = SearchAttributeKey.for_keyword("Customer")
    many = SearchAttributeKey.for_keyword_list("Tags")
    async with embedded_server(tmp_path, search_attributes=[key, many]) as server:
        answer = await server.client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace="default")
        )
        assert server.ui_url
        with socket.create_connection(("127.0.0.1", int(server.ui_url.rpartition(":")[2]))):
            pass

    assert {"Customer", "Tags"} <= set(answer.custom_attributes)
    assert server.address in server.profile.read_text()
    assert server.process.returncode == 0


async def test_embedded_server_after_a_restart_knows_its_workflows(tmp_path: Path) -> None:
    """Workflows started before a restart are still there after it."""
    async with embedded_server(tmp_path, headless=True) as server:
        await server.client.start_workflow("Anything", id="kept", task_queue="nobody")
    async with embedded_server(tmp_path, headless=True) as server:
        description = await server.client.get_workflow_handle("kept").describe()

    assert description.workflow_type == "Anything"


@pytest.mark.parametrize("option", ["port", "ui_port"])
async def test_embedded_server_when_a_wanted_port_is_taken_names_port_and_option(
    option: str, tmp_path: Path
) -> None:
    """Somebody who asked for a port is told which one is taken and which option asked for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ports = {"port": number} if option == "port" else {"ui_port": number}

        with pytest.raises(PortInUseError, match=f"port {number} .*--{option.replace('_', '-')}"):
            async with embedded_server(tmp_path, **ports):
                pass


async def test_embedded_server_when_no_port_is_wanted_takes_free_ones(tmp_path: Path) -> None:
    """Two servers in two directories run beside each other without anybody choosing ports."""
    async with (
        embedded_server(tmp_path / "one") as one,
        embedded_server(tmp_path / "two") as two,
    ):
        clients = [await Client.connect(server.address) for server in (one, two)]

    assert one.address != two.address
    assert len(clients) == 2


async def test_embedded_servers_that_start_together_do_not_share_a_port(tmp_path: Path) -> None:
    """Servers that are started at the same moment never take each other's port for their own."""

    async def address(name: str) -> str:
        async with embedded_server(tmp_path / name, headless=True) as server:
            started.release()
            await ended.wait()
            return server.address

    started, ended = asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(address(name)) for name in ("one", "two", "three")]
        for _ in tasks:
            await started.acquire()
        ended.set()

    assert len({task.result() for task in tasks}) == 3


async def test_embedded_server_in_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    """A second server in one directory is refused with the process and address of the first."""
    async with embedded_server(tmp_path, headless=True) as server:
        with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}.*{server.address}"):
            async with embedded_server(tmp_path):
                pass


async def test_embedded_server_that_cannot_start_shows_its_own_words(tmp_path: Path) -> None:
    """A server that dies at once is reported with what it wrote."""
    (tmp_path / "temporal.db").write_bytes(b"this is no database" * 100)

    with pytest.raises(ServerFailedError, match="not a database"):
        async with embedded_server(tmp_path, headless=True):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that a parent ended")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_embedded_server_whose_parent_is_killed_ends_too(
    number: signal.Signals, tmp_path: Path
) -> None:
    """No server is left behind, whichever signal ends the process that started it."""
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout
    server = psutil.Process(int(await owner.stdout.readline()))
    owner.send_signal(number)
    await owner.wait()

    await asyncio.to_thread(server.wait, 10)


async def test_free_port_when_asked_twice_gives_usable_ports() -> None:
    """A port that is called free can be listened on."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0
