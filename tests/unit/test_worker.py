"""What the life of a worker does with failures; the life itself is tested with real processes."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from temporal_fleet.settings import load_settings
from temporal_fleet.worker.process import WorkerProcess


async def test_failed_task_begins_the_drain_and_is_logged_once() -> None:
    """No task of the process dies silently: the worker drains, and the log has the cause."""
    life = WorkerProcess("orders", load_settings(environ={}))
    life.drain.install(asyncio.get_running_loop())
    error = RuntimeError("secret file vanished")

    async def fail() -> None:
        raise error

    try:
        with capture_logs() as logs:
            await life._guard("credentials", fail())
            await asyncio.wait_for(life.drain.requested.wait(), 10)
    finally:
        life.drain.finished()

    assert life.drain.reason == "credentials failed"
    assert [(line["event"], line["exc_info"]) for line in logs] == [
        ("fatal error, worker stops", error)
    ]
