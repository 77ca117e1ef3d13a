"""What a process of the pool does: receive a call, run it, send back what came of it.

It is started as a script, by its path, with nothing but the standard library imported, so that the
import path of the parent is in place before anything of a workload is looked for. Parent and child
exchange pickles of built-in types, each behind its length; what belongs to a workload is pickled
once more inside, so that a class that cannot be imported spoils one call and never the connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TypedDict

HEADER = struct.Struct("!Q")
"""Length of the pickle that follows, in bytes."""

_CHUNK = 1 << 20  # bytes
_PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h
_REGISTRY = "temporal_fleet.execution.cpu_activities"
_METRICS = "temporal_fleet.execution.child_metrics"


Measured = tuple[str, str, str, str, tuple[tuple[str, str], ...], float]
"""Family (its name, documentation and type), sample (its name and labels), and what is to be added to it."""


class Setup(TypedDict):
    """First message to a child."""

    import_path: list[str]
    """The parent's ``sys.path``."""
    initializer: bytes | None
    """Pickle of a callable without arguments to call first; None for none."""
    warm_imports: Sequence[str]
    """Modules to import before the child is ready."""
    after_imports: bytes | None
    """Pickle of a callable without arguments to call after the imports; None for none."""


class Call(TypedDict):
    """One call, message to a ready child."""

    kind: Literal["call"]
    module: str
    """Module whose import registers the function."""
    name: str
    """Qualified name of the function in its module."""
    arguments: bytes
    """Pickle of positional and keyword arguments, as a pair."""
    log_ids: Mapping[str, str | int]
    """IDs of the activity that calls."""
    log_context: Mapping[str, Any]
    """Fields that the caller bound to its log lines."""
    activity: bytes | None
    """Pickle of the ``activity.Info`` of the activity that calls; None when none does."""
    worker_shutdown: bool
    """Whether the worker is stopping already."""


class Notice(TypedDict):
    """What a child may want to know while it runs a call; one that comes too late is ignored."""

    kind: Literal["cancel", "worker_shutdown"]
    details: bytes | None
    """Pickle of the ``ActivityCancellationDetails`` of a cancellation."""


class Answer(TypedDict, total=False):
    """What comes back, for a setup as well as for a call."""

    kind: str
    """``ready``, ``failed`` (setup); ``returned``, ``raised``, ``impossible`` (call). Before the end of a
    call, any number of ``heartbeat`` and ``metrics``, and one ``asks``: the function wants to know whether to
    stop."""
    value: bytes | None
    """Pickle of the result, of the exception (None when it cannot be pickled), of a heartbeat's details, or of
    pairs of instrument and value."""
    counted: list[Measured]
    """What the call counted with ``prometheus_client``."""
    error_type: str
    """Class name of an exception."""
    message: str
    """Text of an exception, or what was impossible."""
    trace: str
    """Traceback in the child."""
    seconds: float
    """How long the setup took."""


def main(descriptor: int, parent: int) -> None:
    """Serve calls from the socket *descriptor* until the process *parent* closes it or dies."""
    # Only the parent decides when a child ends: Ctrl-C and a signal to the whole control group must
    # not. Handlers rather than SIG_IGN, which the programs that an activity starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    _die_with(parent)
    with (
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
        socket.socket(fileno=descriptor) as connection,
    ):
        line = Line(connection)
        setup = line.receive()
        if setup is None:
            return
        prepared = _prepare(setup)
        line.send(prepared)
        if prepared["kind"] == "failed":
            return
        from temporal_fleet.execution.child_metrics import Counts

        counts = Counts()
        while (message := line.receive()) is not None:
            if message["kind"] != "call":
                continue
            answer = _answer(message, line)
            answer["counted"] = counts.changed()
            line.send(answer)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()


class Line:
    """The connection to the parent; threads of a call may use it at once.

    Nothing is read ahead, so that the socket alone says whether a message waits.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, answer: Answer) -> None:
        """Send one message."""
        body = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._connection.sendall(HEADER.pack(len(body)))
            self._connection.sendall(body)

    def receive(self) -> Any:
        """Wait for one message; None when the parent has closed the connection."""
        header = self._read(HEADER.size)
        body = header and self._read(*HEADER.unpack(header))
        return pickle.loads(body) if body else None  # noqa: S301 - from our own parent

    def waits(self, seconds: float | None) -> bool:
        """Tell whether a message waits; wait up to *seconds* for one, None = as long as it takes."""
        return bool(select.select([self._connection], [], [], seconds)[0])

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self._connection.recv(min(size - len(parts), _CHUNK))
            if not part:
                return None
            parts += part
        return bytes(parts)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request above
        os._exit(1)


def _prepare(setup: Setup) -> Answer:
    began = time.monotonic()
    sys.path[:] = setup["import_path"]
    doing = "initialise"
    try:
        if setup["initializer"] is not None:
            pickle.loads(setup["initializer"])()  # noqa: S301 - from our own parent
        for module in setup["warm_imports"]:
            doing = f"import {module!r}"
            importlib.import_module(module)
        doing = "initialise"
        if setup["after_imports"] is not None:
            pickle.loads(setup["after_imports"])()  # noqa: S301 - from our own parent
        importlib.import_module(_METRICS)
    except BaseException as error:  # noqa: BLE001 - even sys.exit() in a module is the parent's to report
        return _failure("failed", error, message=f"cannot {doing}")
    return {"kind": "ready", "seconds": time.monotonic() - began}


def _answer(call: Call, line: Line) -> Answer:
    doing = f"find {call['module']}.{call['name']}"
    try:
        function = _find(call["module"], call["name"])
        doing = "unpickle its arguments"
        args, kwargs = pickle.loads(call["arguments"])  # noqa: S301 - from our own parent
        log_context = _log_context(call["log_ids"], call["log_context"])
        attempt = _activity_context(call, line)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises is the parent's to report
        return _failure("impossible", error, message=f"cannot {doing}")
    try:
        with log_context, attempt:
            result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - it is raised again in the parent
        return _failure("raised", error, message=_text(error), value=_pickled(error))
    try:
        return {"kind": "returned", "value": pickle.dumps(result, pickle.HIGHEST_PROTOCOL)}
    except Exception as error:  # noqa: BLE001 - __reduce__ of anything may raise anything
        kind = type(result).__qualname__
        return _failure("impossible", error, message=f"cannot pickle its result of type {kind}")


def _find(module: str, name: str) -> Callable[..., Any]:
    importlib.import_module(module)
    function: Callable[..., Any] = sys.modules[_REGISTRY].registered(module, name)
    return function


def _log_context(
    ids: Mapping[str, str | int], bound: Mapping[str, Any]
) -> AbstractContextManager[None]:
    from temporal_fleet.log_context import activity_ids

    activity_ids.set(ids)
    if not bound:
        return contextlib.nullcontext()
    from structlog.contextvars import bound_contextvars

    return bound_contextvars(**bound)


def _activity_context(call: Call, line: Line) -> AbstractContextManager[None]:
    if call["activity"] is None:
        return contextlib.nullcontext()
    from temporal_fleet.execution.child_activity import Attempt

    attempt = Attempt(line, call["activity"], worker_shutdown=call["worker_shutdown"])
    return attempt.context()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - __str__ may raise anything
        return f"its text cannot be read, {type(failed).__name__}"


def _failure(
    kind: str, error: BaseException, *, message: str, value: bytes | None = None
) -> Answer:
    error.__traceback__ = (
        error.__traceback__ and error.__traceback__.tb_next
    )  # without our own frame
    return {
        "kind": kind,
        "error_type": type(error).__name__,
        "message": message,
        "trace": "".join(traceback.format_exception(error)),
        "value": value,
    }


def _pickled(error: BaseException) -> bytes | None:
    """Return the pickle of an exception; None when the parent could not make an exception of it.

    Classes whose constructor takes other arguments than it hands to ``Exception`` pickle well and
    fail when they are unpickled, so that is tried here.
    """
    # A coroutine cannot let these through, and the parent's loop must not see a SystemExit.
    if not isinstance(error, Exception) or isinstance(error, (StopIteration, StopAsyncIteration)):
        return None
    try:
        data = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        same = type(pickle.loads(data)) is type(error)  # noqa: S301 - made in the line above
    except Exception:  # noqa: BLE001 - __reduce__ and constructors may raise anything
        return None
    return data if same else None


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
