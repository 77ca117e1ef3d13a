"""Encrypted histories: replayed with their keys, and recorded so that a replay needs none."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_fleet import Workload
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import CodecSettings, Settings
from temporal_fleet.testing import dev_server, replay_histories

pytestmark = pytest.mark.integration


# The sandbox cannot import a test file by its name.
@workflow.defn(sandboxed=False)
class Greeting:
    """A workflow whose commands depend on what was encrypted."""

    @workflow.run
    async def run(self, name: str) -> str:
        """Greet those whose names are right."""
        if name != "Ada":
            await workflow.sleep(1)
        return f"hello {name}"


WORKLOAD: Workload[None, None] = Workload(name="greetings", workflows=[Greeting])


@pytest.fixture
def codec(tmp_path: Path) -> CodecSettings:
    """A directory with one key, which encrypts."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "first").write_bytes(base64.b64encode(os.urandom(32)))
    return CodecSettings(keys_directory=keys, encryption_key_id="first")


@pytest.fixture
async def client(codec: CodecSettings) -> AsyncIterator[Client]:
    """A client that encrypts, with one finished run of :class:`Greeting`."""
    async with dev_server() as environment:
        address = environment.client.service_client.config.target_host
        encrypting = await Client.connect(address, data_converter=data_converter(codec))
        async with Worker(encrypting, task_queue="greetings", workflows=[Greeting]):
            await encrypting.execute_workflow(
                Greeting.run, "Ada", id="greeting-1", task_queue="greetings"
            )
        yield encrypting


async def record(client: Client, directory: Path, keys: Mapping[str, str]) -> tuple[int, str]:
    """Run the command that records histories; return its exit code and what it says."""
    address = client.service_client.config.target_host
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet.testing", "record", "--address", address),
        *(str(directory), "greeting-1"),
        env=os.environ | keys,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return await process.wait(), output.decode()


async def test_replay_histories_reads_encrypted_ones_with_their_keys(
    client: Client, codec: CodecSettings, tmp_path: Path
) -> None:
    """A history as the server keeps it replays with the keys of the settings."""
    history = await client.get_workflow_handle("greeting-1").fetch_history()
    (tmp_path / "greeting-1.json").write_text(history.to_json())

    assert await replay_histories(WORKLOAD, tmp_path, fleet=Settings(codec=codec)) == 1


async def test_record_writes_encrypted_histories_readable(
    client: Client, codec: CodecSettings, tmp_path: Path
) -> None:
    """What is recorded with the keys is plain JSON, and replays without any key."""
    keys = {"FLEET_CODEC_KEYS_DIRECTORY": str(codec.keys_directory)}
    code, output = await record(client, tmp_path / "recorded", keys)

    assert code == 0, output
    assert "binary/encrypted" not in (tmp_path / "recorded/greeting-1.json").read_text()
    assert await replay_histories(WORKLOAD, tmp_path / "recorded") == 1


async def test_record_without_the_keys_fails_and_writes_nothing(
    client: Client, tmp_path: Path
) -> None:
    """Ciphertext is never recorded: the command names the key that it needs, and fails."""
    code, output = await record(client, tmp_path / "recorded", {})

    assert code == 1
    assert "encrypted with key 'first', and no keys are given" in output
    assert not (tmp_path / "recorded").exists()
