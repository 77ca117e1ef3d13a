"""Histories of finished workflows: recorded from a server, and replayed against a workload's code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_fleet.errors import FleetError

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHistory
    from temporalio.converter import PayloadCodec

    from temporal_fleet.settings import Settings
    from temporal_fleet.workload import Workload


async def replay_histories(
    workload: Workload[Any, Any], directory: Path, *, fleet: Settings | None = None
) -> int:
    """Replay every recorded history (``*.json``) of a directory against a workload's workflows.

    It is replayed as its worker would run it: same data converter, sandbox and interceptors.

    Args:
        workload: Whose workflows replay.
        directory: Where :func:`record_histories` wrote to.
        fleet: Runtime settings, for histories that are encrypted; None means the defaults, without keys.

    Returns:
        How many histories were replayed; all of them fit.

    Raises:
        FleetError: When there are none, or a file is not a whole history.
        DecryptionError: When a history is encrypted and its key is not there.
        temporalio.workflow.NondeterminismError: When the code does not fit a history.
    """
    from temporalio.worker import Replayer

    from temporal_fleet.payloads import data_converter
    from temporal_fleet.registration import workflow_arguments

    histories = await asyncio.to_thread(_read_histories, directory)
    replayer = Replayer(
        interceptors=workload.interceptors,
        data_converter=data_converter(fleet.codec if fleet else None),
        **workflow_arguments(workload, versioning=True),
    )
    for history in histories:
        await replayer.replay_workflow(history)
    return len(histories)


def _read_histories(directory: Path) -> list[WorkflowHistory]:
    from temporalio.client import WorkflowHistory

    files = sorted(directory.glob("*.json"))
    if not files:
        raise FleetError(
            f"{directory} holds no histories (*.json). Record some: "
            "python -m temporal_fleet.testing record"
        )
    histories = [WorkflowHistory.from_json(file.stem, file.read_text()) for file in files]
    for file, history in zip(files, histories, strict=True):
        # The SDK's core hangs forever on a history without its beginning, in spite of timeouts.
        if not history.events or not history.events[0].HasField(
            "workflow_execution_started_event_attributes"
        ):
            raise FleetError(
                f"{file} does not begin with WorkflowExecutionStarted. Record it again"
            )
    return histories


async def record_histories(
    client: Client, workflow_ids: Iterable[str], directory: Path
) -> list[Path]:
    """Write the histories of workflows to files, readable and without the names of machines in them.

    What is encrypted is decrypted with the client's keys, so that a test needs none.

    Args:
        client: Connected to the server that has run the workflows.
        workflow_ids: Workflows to record, each to ``<workflow ID>.json``.
        directory: Where to; made when it is not there.

    Returns:
        The files written.

    Raises:
        DecryptionError: When a payload is encrypted and the client has not got its key. No file is
            written of that workflow.
    """
    written = []
    for workflow_id in workflow_ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        document = _without_places(json.loads(history.to_json()))
        await _decrypt(document, client.data_converter.payload_codec)
        file = directory / f"{workflow_id}.json"
        await asyncio.to_thread(_write, file, json.dumps(document, indent=1) + "\n")
        written.append(file)
    return written


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


async def _decrypt(document: Any, codec: PayloadCodec | None) -> None:
    """Replace every payload in the JSON of a history by what the codec makes of it, in place."""
    from google.protobuf.json_format import MessageToDict, ParseDict
    from temporalio.api.common.v1 import Payload

    if codec is None:
        return
    for node in list(_payloads(document)):
        (decoded,) = await codec.decode([ParseDict(node, Payload())])
        node.clear()
        node.update(MessageToDict(decoded))


def _payloads(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from _payloads(item)
    elif isinstance(node, dict):
        # No other message of a history has metadata with an encoding.
        metadata = node.get("metadata")
        if isinstance(metadata, dict) and "encoding" in metadata:
            yield node
        else:
            for value in node.values():
                yield from _payloads(value)


def _without_places(node: Any) -> Any:
    """Drop what tells where it ran: names of processes, and stack traces with their paths."""
    if isinstance(node, list):
        return [_without_places(item) for item in node]
    if not isinstance(node, dict):
        return node
    named_after_process = {"identity"}
    if node.get("kind") == "TASK_QUEUE_KIND_STICKY":
        named_after_process.add("name")
    return {
        key: "recorded" if key in named_after_process else _without_places(value)
        for key, value in node.items()
        if key != "stackTrace"
    }
