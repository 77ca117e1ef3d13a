"""CPU-bound activities: ``async def`` to the SDK, a computation in a child process in truth.

The asynchronous side of such an activity only waits: it heartbeats, passes on what the function and the
worker have to tell each other, ends the child when it must, stops what the server no longer waits for, and
turns a dead child into an error that is retried.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from temporal_fleet.errors import FleetError
from temporal_fleet.execution.child import Measured
from temporal_fleet.execution.child_process import ProcessDiedError
from temporal_fleet.execution.crossing import CallNotPossibleError
from temporal_fleet.execution.processes import (
    START_TIMEOUT,
    STOP_GRACE,
    PoolClosedError,
    ProcessPool,
)

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_HEARTBEAT_INTERVAL = timedelta(seconds=10)
"""Interval without a heartbeat timeout, too: cancellation only travels with heartbeats."""

_UPDATES = {
    "create_counter": "add",
    "create_histogram": "record",
    "create_histogram_float": "record",
    "create_histogram_timedelta": "record",
    "create_gauge": "set",
    "create_gauge_float": "set",
}

log = structlog.get_logger(__name__)

_functions: dict[tuple[str, str], Callable[..., Any]] = {}
_pools: list[ProcessPool] = []


def cpu_bound(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a plain function an activity that computes in a child process.

    Write it below ``@activity.defn``::

        @activity.defn
        @cpu_bound
        def score(batch: Batch) -> Score: ...

    The worker heartbeats for it, so it may have a short heartbeat timeout however long it computes.
    ``activity.info()``, ``activity.heartbeat()`` with details, ``activity.is_cancelled()``,
    ``activity.is_worker_shutdown()`` and ``activity.metric_meter()`` work in it, and what it counts with
    ``prometheus_client`` is added to the worker's when it ends (gauges are not). When it is cancelled, or
    its start-to-close timeout has passed, its process is killed: no ``finally`` runs, so let it write
    nothing that must not stay half done. A function that heartbeats or asks whether it is cancelled first has a
    moment to end by itself (half of the drain's force timeout): its next heartbeat raises
    ``temporalio.exceptions.CancelledError``. A killed process (memory limit) fails this attempt alone, with the
    error type ``ProcessDied``. Arguments, result, exceptions and heartbeat details are pickled.

    Args:
        function: A plain function at the top level of an importable module.

    Returns:
        An ``async def`` function of the same name, signature and type hints.

    Raises:
        TypeError: The function is asynchronous, a generator, not at the top level of its module, or
            in a script that is run as the main program: child processes import the function by its
            name.
    """
    _check(function)
    _functions[function.__module__, function.__qualname__] = function

    @functools.wraps(function)
    async def run_in_process(*args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await _run(function, args, kwargs))

    run_in_process.__temporal_fleet_cpu_bound__ = True  # type: ignore[attr-defined]
    return run_in_process


def registered(module: str, name: str) -> Callable[..., Any]:
    """Return the function that ``cpu_bound`` was given; for child processes.

    Args:
        module: Its module, already imported.
        name: Its qualified name.

    Raises:
        LookupError: Importing the module did not mark such a function.
    """
    try:
        return _functions[module, name]
    except KeyError:
        raise LookupError(
            f"importing {module!r} marks no function {name!r} with @cpu_bound"
        ) from None


def install_pool(pool: ProcessPool) -> None:
    """Let the CPU-bound activities of this process run in a started pool."""
    _pools.append(pool)


def uninstall_pool(pool: ProcessPool) -> None:
    """Take an installed pool away; the one installed before it, if any, is used again."""
    _pools.remove(pool)


def current_pool() -> ProcessPool | None:
    """Return the pool installed last; None when there is none."""
    return _pools[-1] if _pools else None


@asynccontextmanager
async def running_process_pool(
    size: int = 1,
    warm_imports: Sequence[str] = (),
    *,
    initializer: Callable[[], None] | None = None,
    after_imports: Callable[[], None] | None = None,
    start_timeout: timedelta = START_TIMEOUT,
    stop_grace: timedelta = STOP_GRACE,
    on_counted: Callable[[list[Measured]], None] | None = None,
) -> AsyncIterator[ProcessPool]:
    """Run a process pool and install it; the worker does this, and so does a test of an activity.

    Args:
        size: Number of child processes.
        warm_imports: Modules that every child imports before the pool counts as started.
        initializer: Called first in every child; must be picklable. None = nothing.
        after_imports: Called in every child after its imports; must be picklable. None = nothing.
        start_timeout: Longest time until all children are warm.
        stop_grace: How long a function that asks whether to stop may go on once it has to.
        on_counted: Told after each call what it counted with ``prometheus_client``. None = nobody.

    Yields:
        The pool, warm.

    Raises:
        WorkloadImportError: An import or the initializer failed in a child; with its traceback.
        FleetError: The children took longer than *start_timeout*.
    """
    pool = ProcessPool(
        size,
        warm_imports=warm_imports,
        initializer=initializer,
        after_imports=after_imports,
        stop_grace=stop_grace,
        on_counted=on_counted,
    )
    try:
        await pool.start(start_timeout)
        install_pool(pool)
        try:
            yield pool
        finally:
            uninstall_pool(pool)
    finally:
        await pool.close()


def _check(function: Callable[..., Any]) -> None:
    if not inspect.isfunction(function):
        raise TypeError(f"@cpu_bound is for plain functions, not for {function!r}")
    where = f"@cpu_bound function {function.__module__}.{function.__qualname__}"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{where} is asynchronous, but runs in a process without an event loop. Write it as "
            "a plain def, or remove @cpu_bound and await what it awaits on the event loop"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{where} is a generator; an activity has one result, so return a list")
    if function.__qualname__ != function.__name__ or not function.__name__.isidentifier():
        raise TypeError(
            f"{where} is not at the top level of its module, so a child process cannot import it. "
            "Move it there; what it needs from around it must come as an argument"
        )
    if function.__module__ == "__main__":
        raise TypeError(
            f"{where} is in the script that is run, which child processes do not import. Move it "
            "into a module of its own"
        )


async def _run(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    pool = current_pool()
    if pool is None:
        raise FleetError(
            f"{function.__module__}.{function.__qualname__} is @cpu_bound, but no process pool "
            "runs here. `fleet worker` and `fleet dev` start one; in a test or a program of your "
            "own: `async with temporal_fleet.execution.running_process_pool(size=1): ...`"
        )
    if not activity.in_activity():
        return await pool.run(function.__module__, function.__qualname__, args, kwargs)
    return await _run_as_activity(pool, function, args, kwargs)


async def _run_as_activity(
    pool: ProcessPool, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    info = activity.info()
    allowed = info.start_to_close_timeout
    attempt = _Attempt(info)
    deadline = asyncio.timeout(None if allowed is None else allowed.total_seconds())
    try:
        async with _heartbeats(info, attempt), deadline:
            return await pool.run(
                function.__module__, function.__qualname__, args, kwargs, caller=attempt
            )
    except (TimeoutError, CancelledError):
        if not deadline.expired():
            raise
        assert allowed is not None, "the deadline comes from it"
        raise _timed_out(info, allowed, attempt) from None
    except ProcessDiedError as error:
        raise ApplicationError(
            f"activity {info.activity_type!r}: {error}; only this attempt failed",
            type="ProcessDied",
        ) from None
    except PoolClosedError as error:
        raise ApplicationError(
            f"activity {info.activity_type!r}: the worker stops, {error}", type="WorkerShutdown"
        ) from None
    except CallNotPossibleError as error:
        raise ApplicationError(
            f"activity {info.activity_type!r}: {error}", type="CallNotPossible"
        ) from error


def _timed_out(info: activity.Info, allowed: timedelta, attempt: _Attempt) -> ApplicationError:
    log.warning(
        "start-to-close timeout passed, process of the activity stopped",
        activity_type=info.activity_type,
        timeout_seconds=allowed.total_seconds(),
        **attempt.progress(),
    )
    return ApplicationError(
        f"activity {info.activity_type!r} was stopped after its start_to_close_timeout of "
        f"{allowed.total_seconds():g} s",
        type="StartToCloseTimeout",
    )


class _Attempt:
    """What the pool and the server tell each other about one attempt, through this process."""

    def __init__(self, info: activity.Info) -> None:
        self.info = pickle.dumps(info, pickle.HIGHEST_PROTOCOL)
        self._is_local = info.is_local
        # A heartbeat without details would take away what an earlier attempt has left.
        self._details: Sequence[Any] = info.heartbeat_details
        self._instruments: dict[tuple[Any, ...], Any] = {}
        self._pid: int | None = None
        self._began = time.monotonic()

    def began(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()

    def heartbeat(self, details: bytes) -> None:
        try:
            self._details = pickle.loads(details)  # noqa: S301 - from our own child
        except Exception as error:
            raise CallNotPossibleError(f"cannot unpickle heartbeat details: {error}") from error
        self.beat()

    def beat(self) -> None:
        """Tell the server that this attempt lives, and how far it is."""
        if not self._is_local:  # its worker knows that it lives
            activity.heartbeat(*self._details)

    def measured(self, updates: bytes) -> None:
        for (*described, attributes), value in pickle.loads(updates):  # noqa: S301 - from our own child
            try:
                self._measure(tuple(described), dict(attributes), value)
            except Exception as error:
                raise CallNotPossibleError(
                    f"cannot record {value!r} for the metric {described[1]!r}: {error}"
                ) from error

    def _measure(self, described: tuple[str, ...], attributes: dict[str, Any], value: Any) -> None:
        create, *names = described
        if described not in self._instruments:
            self._instruments[described] = getattr(activity.metric_meter(), create)(*names)
        getattr(self._instruments[described], _UPDATES[create])(value, attributes)

    def cancellation_details(self) -> bytes:
        return pickle.dumps(activity.cancellation_details())

    def progress(self) -> dict[str, Any]:
        """Return for the log whether it waits or computes, and for how long."""
        seconds = round(time.monotonic() - self._began, 1)
        return {"pid": self._pid, "computing" if self._pid else "waiting": seconds}


@asynccontextmanager
async def _heartbeats(info: activity.Info, attempt: _Attempt) -> AsyncIterator[None]:
    interval = LONGEST_HEARTBEAT_INTERVAL
    if info.heartbeat_timeout is not None:
        interval = min(info.heartbeat_timeout / 3, interval)
    beating = asyncio.create_task(_beat(interval, attempt))
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(interval: timedelta, attempt: _Attempt) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds())
        attempt.beat()
