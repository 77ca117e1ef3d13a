"""How the fields of a log line become text: JSON, or text for a terminal."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from datetime import datetime, timedelta
from typing import Any

Fields = MutableMapping[str, Any]


def _as_json(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return list(value)
    return printable(value)


def printable(value: object) -> str:
    """Return the text of any value; never raises."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - whatever a foreign __str__ raises
        return f"<{type(value).__name__} cannot be shown: {error!r}>"


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_as_json
).encode


def render_json(fields: Fields) -> str:
    """Return *fields* as one line of JSON; what JSON cannot hold becomes text. Never raises."""
    try:
        return _encode(fields)
    except (TypeError, ValueError, RecursionError):
        # A key that is not text, a circle or a number like NaN: rare, so found field by field.
        return _encode({str(name): _encodable(value) for name, value in fields.items()})


def _encodable(value: object) -> object:
    try:
        _encode(value)
    except (TypeError, ValueError, RecursionError):
        return printable(value)
    return value


class ConsoleFormat:
    """Text for people: the time of day, and of the constants only the workload.

    Args:
        colors: Whether to write the codes that color text in a terminal.
    """

    def __init__(self, *, colors: bool) -> None:
        import structlog.dev

        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, fields: Fields) -> str:
        """Return the text of a line."""
        shown = {
            k: v for k, v in fields.items() if k not in {"deployment", "build_id", "namespace"}
        }
        moment = datetime.fromisoformat(fields["timestamp"]).astimezone()
        shown["timestamp"] = moment.strftime("%H:%M:%S.%f")[:-3]
        return str(self._renderer(None, fields["level"], shown))
