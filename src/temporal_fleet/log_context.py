"""The IDs of the activity that runs, for its log lines.

They are kept apart from structlog's context variables, which belong to the workload: it may bind
and clear them as it likes, and the IDs stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

activity_ids: ContextVar[Mapping[str, str | int]] = ContextVar("activity_ids", default={})  # noqa: B039 - never changed in place
"""Fields of every line that an activity logs, by name; empty outside of activities."""
