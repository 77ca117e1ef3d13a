"""What a log line of a worker looks like, whether structlog, logging or the SDK's core wrote it.

Everything becomes one flat dictionary and then one line on standard error: JSON, or text for a
terminal. The rendering is ours instead of structlog's bridge to stdlib, since logs are the largest
part of a worker's overhead. A line that cannot be written is dropped and counted, never waited for:
a log collector that hangs must not stop workflows.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # Importing structlog imports rich for tracebacks that are never shown: 90 of 115 ms of a
    # worker's start.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]
import structlog
import structlog.contextvars
import structlog.dev
import structlog.processors

if TYPE_CHECKING:
    from temporal_fleet.settings import LogSettings

UNVERSIONED = "__unversioned__"
"""Stands in logs and metrics for the build ID of a worker that has none; Temporal's own word."""
WRITE_TIMEOUT = timedelta(seconds=1)
"""How long one line may wait for standard error before lines are dropped."""

_STDERR = 2
# A pipe that is writable takes this much at once without blocking (pipe(7)).
_CHUNK = select.PIPE_BUF
_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {
    *("message", "asctime", "taskName"),
    *("temporal_workflow", "temporal_activity", "temporal_log"),
}
_HEAD = frozenset({"timestamp", "level", "event", "logger"})
_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical", "msg": "info"}

_TRACEBACKS = logging.Formatter()
_add_stack = structlog.processors.StackInfoRenderer(additional_ignores=[__name__])
_add_exception = structlog.processors.format_exc_info

Fields = MutableMapping[str, Any]


def configure_logging(
    settings: LogSettings, *, workload: str, deployment: str, build_id: str | None
) -> None:
    """Send everything that is logged in this process to standard error, in one format.

    Call it once, early; a second call replaces the first. Calls of ``structlog.get_logger(name)``
    and of
    ``logging.getLogger(name)`` both end here, with the variables bound by ``structlog.contextvars``
    and, in workflows and activities, the SDK's context as fields. It also takes Python's warnings
    and makes the SDK's loggers leave their context out of the message.

    Args:
        settings: Format and levels.
        workload: Name of the workload, on every line.
        deployment: Name of the Worker Deployment, on every line.
        build_id: Build ID, on every line; None = :data:`UNVERSIONED`.
    """
    from temporalio import activity, workflow

    is_json = settings.format == "json" or (settings.format == "auto" and not os.isatty(_STDERR))
    constants = {
        "workload": workload,
        "deployment": deployment,
        "build_id": build_id or UNVERSIONED,
    }
    render = render_json if is_json else _ConsoleFormat(colors=_wants_colors())
    handler = LineHandler(_STDERR, render, constants)
    level = getattr(logging, settings.level)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    # On DEBUG the SDK logs whole activations, payloads and all: nobody wants customers' data in
    # logs.
    logging.getLogger("temporalio.worker").setLevel(max(level, logging.INFO))
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
    structlog.configure(
        processors=[handler.render_event],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: _LineLogger(names[0] if names else "root", handler),
        cache_logger_on_first_use=True,
    )


_trace_source: Callable[[], Mapping[str, str]] = dict


def set_trace_source(source: Callable[[], Mapping[str, str]]) -> None:
    """Add to every line what *source* returns for it: ``trace_id`` and ``span_id``."""
    global _trace_source  # noqa: PLW0603 - there is one log per process, and tracing starts after it
    _trace_source = source


class LineHandler(logging.Handler):
    """Renders records of stdlib logging and events of structlog, and writes them to a descriptor.

    Args:
        descriptor: Where to write; not closed.
        render: Turns the fields of a line into its text, without the newline.
        constants: Fields of every line.
    """

    def __init__(
        self, descriptor: int, render: Callable[[Fields], str], constants: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._render = render
        self._constants = constants
        self._dropped = 0
        self._second = (-1, "")
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of stdlib logging; never raises."""
        self._write(self._render_safely(record.name, lambda: self._record_fields(record)))

    def render_event(self, logger: Any, method: str, event: Fields) -> str:
        """Render an event of structlog; the last of its processors, and never raises."""
        return self._render_safely(logger.name, lambda: self._event_fields(logger, method, event))

    def _render_safely(self, logger: str, fields: Callable[[], Fields]) -> str:
        try:
            return self._render(fields())
        except Exception as error:  # noqa: BLE001 - logging must not break what is logged
            lost = self._head("error", "log line lost", logger)
            return self._render({**lost, "error": _printable(error)})

    def _event_fields(self, logger: Any, method: str, event: Fields) -> Fields:
        fields = self._head(_LEVELS.get(method, method), event.pop("event", ""), logger.name)
        if event.pop("stack_info", False):
            event = _add_stack(logger, method, {**event, "stack_info": True})
        if exc_info := event.pop("exc_info", None):
            event = _add_exception(logger, method, {**event, "exc_info": exc_info})
        for name, value in event.items():
            fields[self._free(name)] = value
        return fields

    def _free(self, name: str) -> str:
        """Return under which name a foreign field is written: never in place of one of ours."""
        return f"extra_{name}" if name in _HEAD or name in self._constants else name

    def write_line(self, line: str) -> None:
        """Write a rendered line; never raises, never waits longer than :data:`WRITE_TIMEOUT`."""
        self.acquire()
        try:
            self._write(line)
        finally:
            self.release()

    def _head(self, level: str, event: object, logger: str, at: float | None = None) -> Fields:
        return {
            "timestamp": self._timestamp(time.time() if at is None else at),
            "level": level,
            "event": event,
            "logger": logger,
            **self._constants,
            **{self._free(k): v for k, v in structlog.contextvars.get_contextvars().items()},
            **_trace_source(),
        }

    def _timestamp(self, at: float) -> str:
        # Formatting a date takes longer than all other fields together; most lines share their
        # second.
        whole = int(at)
        second, text = self._second
        if second != whole:
            text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = (whole, text)
        return f"{text}.{int((at - whole) * 1_000_000):06d}Z"

    def _record_fields(self, record: logging.LogRecord) -> Fields:
        fields = self._head(
            record.levelname.lower(), _message(record), record.name, at=record.created
        )
        attributes = record.__dict__
        for name in ("temporal_workflow", "temporal_activity"):
            if details := attributes.get(name):
                fields.update(details)
        if "run_id" in fields:
            fields["workflow_run_id"] = fields.pop("run_id")
        if core := attributes.get("temporal_log"):
            fields["core"] = {"target": core.target, **core.fields}
        for name in attributes.keys() - _RECORD_ATTRIBUTES:
            fields[self._free(name.lstrip("_"))] = attributes[name]
        if record.exc_info:
            fields["exception"] = _TRACEBACKS.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return fields

    def _write(self, line: str) -> None:
        if self._dropped and self._is_writable():
            dropped, self._dropped = self._dropped, 0
            self._put(self._render(self._dropped_fields(dropped)))
        self._put(line)

    def _dropped_fields(self, count: int) -> Fields:
        fields = self._head(
            "warning", "log lines were dropped: standard error was blocked", __name__
        )
        fields["dropped"] = count
        fields["write_timeout_seconds"] = WRITE_TIMEOUT.total_seconds()
        return fields

    def _put(self, line: str) -> None:
        data = memoryview(f"{line}\n".encode("utf-8", "backslashreplace"))
        try:
            while data:
                if not self._is_writable():
                    self._dropped += 1
                    return
                data = data[os.write(self._descriptor, data[:_CHUNK]) :]
        except OSError:
            # Nobody reads standard error any more (a broken pipe): there is no place left to
            # complain.
            self._dropped += 1

    def _is_writable(self) -> bool:
        # Once blocked, the next lines do not wait again.
        timeout = 0 if self._dropped else WRITE_TIMEOUT.total_seconds() * 1000
        return bool(self._poll.poll(timeout))


class _LineLogger:
    """What structlog calls with a rendered line."""

    def __init__(self, name: str, handler: LineHandler) -> None:
        self.name = name
        self.msg = handler.write_line

    def __getattr__(self, method: str) -> Callable[[str], None]:
        return self.msg


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever a message's arguments raise
        return f"{record.msg} {record.args} (arguments do not fit: {error})"


def _as_json(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return list(value)
    return _printable(value)


def _printable(value: object) -> str:
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
        return _printable(value)
    return value


class _ConsoleFormat:
    """Text for people: the time of day, and of the constants only the workload."""

    def __init__(self, *, colors: bool) -> None:
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, fields: Fields) -> str:
        shown = {
            k: v for k, v in fields.items() if k not in {"deployment", "build_id", "namespace"}
        }
        moment = datetime.fromisoformat(fields["timestamp"]).astimezone()
        shown["timestamp"] = moment.strftime("%H:%M:%S.%f")[:-3]
        return str(self._renderer(None, fields["level"], shown))


def _wants_colors() -> bool:
    # Source: https://no-color.org
    return os.isatty(_STDERR) and not os.environ.get("NO_COLOR")
