"""What a log line of a worker looks like, whether structlog, logging or the SDK's core wrote it.

Everything becomes one flat dictionary and then one line on standard error: JSON, or text for a
terminal. The rendering is ours instead of structlog's bridge to stdlib, since logs are the largest
part of a worker's overhead. A line that cannot be written is dropped and counted, never waited for:
a log collector that hangs must not stop workflows.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType, MappingProxyType
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
import structlog.processors

from temporal_fleet.log_context import activity_ids
from temporal_fleet.telemetry.line_formats import ConsoleFormat, Fields, printable, render_json
from temporal_fleet.telemetry.nondeterminism import EVENT as NONDETERMINISM
from temporal_fleet.telemetry.nondeterminism import nondeterminism

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
_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical", "msg": "info"}

_TRACEBACKS = logging.Formatter()
_add_stack = structlog.processors.StackInfoRenderer(additional_ignores=[__name__])
_add_exception = structlog.processors.format_exc_info

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def configure_logging(
    settings: LogSettings, *, workload: str, deployment: str, build_id: str | None
) -> None:
    """Send everything that is logged in this process to standard error, in one format.

    Call it once, early; a second call replaces the first. Calls of ``structlog.get_logger(name)``
    and of
    ``logging.getLogger(name)`` both end here, with the variables bound by ``structlog.contextvars``
    and the IDs of the workflow or activity that runs. In a replay workflows do not repeat their lines.
    It also takes Python's warnings and makes the SDK's loggers leave their context out of the message.

    Args:
        settings: Format and levels.
        workload: Name of the workload, on every line.
        deployment: Name of the Worker Deployment, on every line.
        build_id: Build ID, on every line; None = :data:`UNVERSIONED`.
    """
    global _in_force  # noqa: PLW0603 - there is one log per process
    is_json = settings.format == "json" or (settings.format == "auto" and not os.isatty(_STDERR))
    constants = {
        "workload": workload,
        "deployment": deployment,
        "build_id": build_id or UNVERSIONED,
    }
    render = render_json if is_json else ConsoleFormat(colors=_wants_colors())
    handler = LineHandler(_STDERR, render, constants)
    logging.basicConfig(handlers=[handler], force=True)
    _in_force = Configuration(handler, getattr(logging, settings.level))
    _in_force.apply()


@dataclass(frozen=True)
class Configuration:
    """How a process logs."""

    handler: LineHandler
    """Writes every line."""
    level: int
    """Least important level that is logged."""

    def apply(self) -> None:
        """Send what structlog and the SDK log to the handler; the root logger has it already."""
        from temporalio import activity, workflow

        logging.getLogger().setLevel(self.level)
        logging.captureWarnings(True)
        # On DEBUG the SDK logs whole activations, payloads and all: nobody wants customers' data in
        # logs.
        logging.getLogger("temporalio.worker").setLevel(max(self.level, logging.INFO))
        workflow.logger.workflow_info_on_message = False
        activity.logger.activity_info_on_message = False
        structlog.configure(
            processors=[self.handler.render_event],
            wrapper_class=structlog.make_filtering_bound_logger(self.level),
            context_class=dict,
            logger_factory=lambda *names: _LineLogger(names[0] if names else "root", self.handler),
            cache_logger_on_first_use=True,
        )


_in_force: Configuration | None = None


def configuration() -> Configuration | None:
    """Return what :func:`configure_logging` set up; None when it was not called in this process."""
    return _in_force


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

    Attributes:
        closed_by: Module that closed it, as whoever replaces the handlers of stdlib logging does;
            empty while none has.
    """

    def __init__(
        self, descriptor: int, render: Callable[[Fields], str], constants: Mapping[str, str]
    ) -> None:
        from temporalio import workflow

        super().__init__()
        self.closed_by = ""
        self._workflow = workflow
        self._descriptor = descriptor
        self._render = render
        self._constants = constants
        self._dropped = 0
        self._second = (-1, "")
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of stdlib logging, unless it only repeats one in a replay; never raises."""
        if not self._is_repeated(record.name):
            self._write(self._render_safely(record.name, lambda: self._record_fields(record)))

    @override
    def close(self) -> None:
        """Note who closes it; it goes on writing whatever it is given."""
        self.closed_by = _caller()
        super().close()

    def render_event(self, logger: Any, method: str, event: Fields) -> str:
        """Render an event of structlog; the last of its processors.

        Raises:
            structlog.DropEvent: The line only repeats one, in a replay.
        """
        if self._is_repeated(logger.name):
            raise structlog.DropEvent
        return self._render_safely(logger.name, lambda: self._event_fields(logger, method, event))

    def _is_repeated(self, logger: str) -> bool:
        # The SDK decides for its own loggers, of which workflow.logger can be told to repeat lines.
        return (
            self._workflow.in_workflow()
            and not logger.startswith("temporalio")
            and self._workflow.unsafe.is_replaying_history_events()
        )

    def _render_safely(self, logger: str, fields: Callable[[], Fields]) -> str:
        try:
            return self._render(fields())
        except Exception as error:  # noqa: BLE001 - logging must not break what is logged
            told = {"error": printable(error)}
            return self._render(self._fields("error", "log line lost", logger, told))

    def _event_fields(self, logger: Any, method: str, event: Fields) -> Fields:
        if event.pop("stack_info", False):
            event = _add_stack(logger, method, {**event, "stack_info": True})
        if exc_info := event.pop("exc_info", None):
            event = _add_exception(logger, method, {**event, "exc_info": exc_info})
        told = event.pop("event", "")
        return self._fields(_LEVELS.get(method, method), told, logger.name, event)

    def write_line(self, line: str) -> None:
        """Write a rendered line; never raises, never waits longer than :data:`WRITE_TIMEOUT`."""
        self.acquire()
        try:
            self._write(line)
        finally:
            self.release()

    def _fields(
        self,
        level: str,
        event: object,
        logger: str,
        foreign: Mapping[str, Any],
        *,
        at: float | None = None,
        details: Mapping[str, Any] = _NOTHING,
    ) -> Fields:
        """Return the fields of a line; a foreign one never takes the place of one of ours."""
        fields: Fields = {
            "timestamp": self._timestamp(time.time() if at is None else at),
            "level": level,
            "event": event,
            "logger": logger,
            **self._constants,
            **activity_ids.get(),
            **self._workflow_ids(),
            **details,
            **_trace_source(),
        }
        foreign = {**structlog.contextvars.get_contextvars(), **foreign}
        fields.update({f"extra_{k}" if k in fields else k: v for k, v in foreign.items()})
        return fields

    def _workflow_ids(self) -> Mapping[str, Any]:
        if not self._workflow.in_workflow():
            return _NOTHING
        info = self._workflow.info()
        ids = {
            "attempt": info.attempt,
            "namespace": info.namespace,
            "task_queue": info.task_queue,
            "workflow_id": info.workflow_id,
            "workflow_run_id": info.run_id,
            "workflow_type": info.workflow_type,
        }
        if update := self._workflow.current_update_info():
            ids |= {"update_id": update.id, "update_name": update.name}
        return ids

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
        attributes = record.__dict__
        details: Fields = {}
        for name in ("temporal_workflow", "temporal_activity"):
            details.update(attributes.get(name) or _NOTHING)
        if "run_id" in details:
            details["workflow_run_id"] = details.pop("run_id")
        level, event = record.levelname.lower(), _message(record)
        core = attributes.get("temporal_log")
        if core and (explained := nondeterminism(core.fields)):
            level, event = "error", NONDETERMINISM
            details.update(explained)
        elif core:
            details["core"] = {"target": core.target, **core.fields}
        if record.exc_info:
            details["exception"] = _TRACEBACKS.formatException(record.exc_info)
        if record.stack_info:
            details["stack"] = record.stack_info
        return self._fields(
            level,
            event,
            record.name,
            {n.lstrip("_"): attributes[n] for n in attributes.keys() - _RECORD_ATTRIBUTES},
            at=record.created,
            details=details,
        )

    def _write(self, line: str) -> None:
        if self._dropped and self._is_writable():
            dropped, self._dropped = self._dropped, 0
            self._put(self._render(self._dropped_fields(dropped)))
        self._put(line)

    def _dropped_fields(self, count: int) -> Fields:
        told = {"dropped": count, "write_timeout_seconds": WRITE_TIMEOUT.total_seconds()}
        event = "log lines were dropped: standard error was blocked"
        return self._fields("warning", event, __name__, told)

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


def _caller() -> str:
    """Return the innermost module on the stack that is neither logging's nor this one."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the public way reads all source lines
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name != __name__ and name.partition(".")[0] != "logging":
            return name
        frame = frame.f_back
    return ""


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever a message's arguments raise
        return f"{record.msg} {record.args} (arguments do not fit: {error})"


def _wants_colors() -> bool:
    # Source: https://no-color.org
    return os.isatty(_STDERR) and not os.environ.get("NO_COLOR")
