"""Encrypted payloads between real workers, clients and a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fleet_sample.workflows import RunActivity
from running_worker import running_worker, worker_environment
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from temporal_fleet.errors import DecryptionError
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import CodecSettings
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "card-4111-1111"
RUN_TIMEOUT = timedelta(seconds=90)


@workflow.defn(name="OrderWorkflow", sandboxed=False)
class FinishedOrder:
    """An order that is over at once."""

    @workflow.run
    async def run(self, order: dict[str, object]) -> object:
        """Return the ID of the order."""
        return order["order_id"]


@workflow.defn(sandboxed=False)
class SignalledOrder:
    """An order that is over when it is told something."""

    def __init__(self) -> None:
        self._said = ""

    @workflow.run
    async def run(self) -> int:
        """Return the length of what was said."""
        await workflow.wait_condition(lambda: bool(self._said))
        return len(self._said)

    @workflow.signal
    def say(self, text: str) -> None:
        """Take note of a text."""
        self._said = text


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Address of a dev server of this test alone."""
    async with dev_server() as environment:
        yield environment.client.service_client.config.target_host


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with one key, ``first``."""
    (tmp_path / "keys").mkdir()
    add_key(tmp_path / "keys", "first")
    return tmp_path / "keys"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the marks of activities, whose name must not be seen."""
    made = tmp_path / SECRET
    made.mkdir()
    return made


def add_key(directory: Path, key_id: str) -> None:
    """Add a key as a Secret's update does: whole, or not at all."""
    hidden = directory / f"..{key_id}"
    hidden.write_bytes(base64.b64encode(os.urandom(32)))
    hidden.rename(directory / key_id)


async def connect(address: str, keys: Path | None, key_id: str | None = None) -> Client:
    """Connect a client that encrypts with a key, or only decrypts."""
    codec = CodecSettings(keys_directory=keys, encryption_key_id=key_id)
    return await Client.connect(address, data_converter=data_converter(codec))


def encrypting(keys: Path, key_id: str | None = "first") -> dict[str, str]:
    """Return the variables of a worker that has the keys."""
    variables = {"FLEET_CODEC_KEYS_DIRECTORY": str(keys)}
    return variables | ({"FLEET_CODEC_ENCRYPTION_KEY_ID": key_id} if key_id else {})


async def start(
    client: Client, folder: Path, activity: str = "nap_async"
) -> WorkflowHandle[RunActivity, object]:
    """Start the workflow that runs one activity of the sample."""
    return await client.start_workflow(
        RunActivity.run, args=[activity, str(folder), 0.0], id=f"run-{uuid4()}", task_queue="sample"
    )


async def history(handle: WorkflowHandle[RunActivity, object]) -> str:
    """Return everything the server keeps of a run, with payloads as bytes and not as base64."""
    events = [event async for event in handle.fetch_history_events()]
    described = await handle.describe()
    kept = b"".join(event.SerializeToString() for event in events)
    return (kept + described.raw_description.SerializeToString()).decode(errors="replace")


async def test_payloads_are_encrypted_wherever_the_server_keeps_them(
    address: str, keys: Path, folder: Path
) -> None:
    """Arguments and results are encrypted in the history, and readable for those who have the key."""
    async with running_worker(address, environment=encrypting(keys)) as worker:
        handle = await start(await connect(address, keys, "first"), folder)
        result = await handle.result()
        kept = await history(handle)
        reader = (await connect(address, keys)).get_workflow_handle(handle.id)
        stranger = (await connect(address, None)).get_workflow_handle(handle.id)
        with pytest.raises(DecryptionError, match="with key 'first', and no keys are given"):
            await stranger.result()

        assert result == "attempt 1"
        assert await reader.result() == "attempt 1"
        assert SECRET not in kept
        assert "attempt 1" not in kept
        assert worker.events("payload keys read")[0]["encryption_key_id"] == "first"
        key = (keys / "first").read_text()
        assert key not in worker.text


async def test_payloads_messages_of_failures_are_encrypted(
    address: str, keys: Path, tmp_path: Path
) -> None:
    """What an exception says of the data is hidden like the data; its type stays readable for retries."""
    missing = tmp_path / SECRET / "gone"
    async with running_worker(address, environment=encrypting(keys)) as worker:
        handle = await start(await connect(address, keys, "first"), missing)
        await worker.logged("Completing activity as failed")
        async with asyncio.timeout(20):
            while not (await handle.describe()).raw_description.pending_activities[0].attempt > 1:
                await asyncio.sleep(0.05)
        kept = await history(handle)
        await handle.terminate()

        assert SECRET not in kept
        assert "FileNotFoundError" in kept


async def test_payloads_wait_for_a_key_that_comes_later(
    address: str, keys: Path, folder: Path
) -> None:
    """A run whose key has not reached the worker waits; the key is used without a restart, nothing is lost."""
    async with running_worker(address, environment=encrypting(keys)) as worker:
        await worker.logged("worker is ready")
        other = folder.parent / "other"
        other.mkdir()
        (other / "first").write_text((keys / "first").read_text())
        add_key(other, "second")
        handle = await start(await connect(address, other, "second"), folder)
        async with asyncio.timeout(30):
            while "which is not in" not in worker.text:
                await asyncio.sleep(0.05)
        (keys / "..second").write_text((other / "second").read_text())
        (keys / "..second").rename(keys / "second")
        result = await asyncio.wait_for(handle.result(), 40)

        assert result == "attempt 1"
        assert worker.events("payload keys added")[0]["key_ids"] == ["second"]


async def test_payloads_decrypting_worker_reads_both_and_writes_plain(
    address: str, keys: Path, folder: Path
) -> None:
    """While encryption is being switched on, a worker reads what others encrypt and hides nothing itself."""
    async with running_worker(address, environment=encrypting(keys, None)):
        hidden = await start(await connect(address, keys, "first"), folder)
        plain = await start(await connect(address, None), folder)

        assert await plain.result() == "attempt 1"
        assert await hidden.result() == "attempt 1"
        assert "attempt 1" in await history(hidden)


async def test_payloads_signal_waits_for_a_worker_that_has_keys(address: str, keys: Path) -> None:
    """A worker without keys never drops an encrypted signal: the workflow waits for one with keys."""
    keyless = await connect(address, None)
    run = await keyless.start_workflow(
        SignalledOrder.run, id="signalled", task_queue="signals", execution_timeout=RUN_TIMEOUT
    )
    async with Worker(keyless, task_queue="signals", workflows=[SignalledOrder]):
        sender = (await connect(address, keys, "first")).get_workflow_handle(run.id)
        await sender.signal(SignalledOrder.say, SECRET)
        async with asyncio.timeout(20):
            while not await task_failures(run):
                await asyncio.sleep(0.05)
    reader = await connect(address, keys)
    async with Worker(reader, task_queue="signals", workflows=[SignalledOrder]):
        assert await asyncio.wait_for(run.result(), 40) == len(SECRET)


async def task_failures(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Return why workflow tasks of a run failed so far."""
    return [
        event.workflow_task_failed_event_attributes.failure.message
        async for event in handle.fetch_history_events()
        if event.HasField("workflow_task_failed_event_attributes")
    ]


async def test_payloads_worker_without_its_key_does_not_start(address: str, keys: Path) -> None:
    """A worker whose key is missing ends at once and says so; it never sends anything in clear."""
    async with running_worker(address, environment=encrypting(keys, "next")) as worker:
        code = await worker.exit_code()

    assert code == 3
    assert f"FLEET_CODEC_ENCRYPTION_KEY_ID: is next, but {keys} holds only first" in worker.text


async def fleet_start(
    address: str, orders: Path, *arguments: str, environment: Mapping[str, str]
) -> tuple[int | None, str]:
    """Run `fleet start` and return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", "start", "orders", str(orders), *arguments),
        env=worker_environment(address, **environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def write_order(path: Path) -> str:
    """Write a file with one order to somebody whose name must not be seen; return the order's ID."""
    order = json.loads((EXAMPLES / "orders.jsonl").read_text().splitlines()[0])
    order["address"]["name"] = SECRET
    path.write_text(json.dumps(order))
    return str(order["order_id"])


async def test_start_encrypts_what_it_sends(address: str, keys: Path, tmp_path: Path) -> None:
    """`fleet start` encrypts arguments with the same settings as the workers."""
    order_id = write_order(tmp_path / "orders.jsonl")
    code, output = await fleet_start(
        address, tmp_path / "orders.jsonl", environment=encrypting(keys)
    )
    client = await connect(address, keys)

    assert code == 0, output
    assert SECRET not in await history(client.get_workflow_handle(order_id))


async def test_start_without_keys_says_why_results_are_unreadable(
    address: str, keys: Path, tmp_path: Path
) -> None:
    """Waiting for encrypted results without the key ends with the reason, not with a traceback."""
    orders = tmp_path / "orders.jsonl"
    order_id = write_order(orders)
    await fleet_start(address, orders, environment=encrypting(keys))
    client = await connect(address, keys, "first")
    async with Worker(client, task_queue="orders", workflows=[FinishedOrder]):
        assert await client.get_workflow_handle(order_id).result() == order_id
    code, output = await fleet_start(address, orders, "--wait", environment={})

    assert code == 1
    assert "1 unreadable" in output
    assert "with key 'first', and no keys are given. Set FLEET_CODEC_KEYS_DIRECTORY" in output
    assert "Traceback" not in output
