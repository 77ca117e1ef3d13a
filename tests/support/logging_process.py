"""A process whose logging is configured for real, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

PROLOGUE = """
import logging, sys, warnings
import structlog
from temporal_fleet.telemetry.logs import configure_logging
from temporal_fleet.settings import LogSettings

configure_logging(
    LogSettings(format={format!r}, level={level!r}),
    workload="orders", deployment="orders-eu", build_id={build_id!r},
)
log = structlog.get_logger("fleet.x")
std = logging.getLogger("lib.y")
"""


def stderr_of(
    code: str, *, format: str = "json", level: str = "INFO", build_id: str | None = "b1"
) -> str:
    """Run *code* in a process with configured logging; return what it wrote to standard error."""
    prologue = PROLOGUE.format(format=format, level=level, build_id=build_id)
    done = subprocess.run(
        [sys.executable, "-c", prologue + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def lines_of(code: str, **options: Any) -> list[dict[str, Any]]:
    """Run *code* as `stderr_of` does; return the JSON lines it wrote."""
    return [json.loads(line) for line in stderr_of(code, **options).splitlines()]
