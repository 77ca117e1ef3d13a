"""What temporal-fleet uses of the SDK beyond its public API."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import temporalio.bridge.worker
import temporalio.worker
from temporalio.worker._activity import _ActivityInboundImpl, _RunningActivity

import temporal_fleet
from temporal_fleet.sdk_internals import KNOWN_RELEASES

SOURCES = Path(temporal_fleet.__file__).parent
PRIVATE = re.compile(
    r"\b(temporalio[\w.]*|activity|workflow|worker|client|interceptor)\._[a-zA-Z]|temporalio\.bridge"
    r"|import _[A-Za-z]"
)


def test_sdk_release_is_known_to_have_the_private_names() -> None:
    """A release that nobody has looked at fails here: read its changes, then add it to the list."""
    release = version("temporalio")

    assert ".".join(release.split(".")[:2]) in KNOWN_RELEASES


def test_private_names_that_are_looked_up_late_exist() -> None:
    """Names that are read only while a worker stops are where this release of the SDK has them."""
    assert hasattr(temporalio.bridge.worker.Worker, "request_workflow_eviction")
    assert "self._bridge_worker" in inspect.getsource(temporalio.worker.Worker)
    assert "_running_activity" in inspect.getsource(_ActivityInboundImpl)
    assert {"cancel", "cancelled_by_request", "cancellation_details"} <= {
        *dir(_RunningActivity),
        *_RunningActivity.__dataclass_fields__,
    }


def test_private_names_of_the_sdk_are_used_in_one_module_only() -> None:
    """Whoever renews the SDK has one place to look at."""
    users = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if PRIVATE.search(path.read_text(encoding="utf-8"))
    }

    assert users == {"sdk_internals.py"}
