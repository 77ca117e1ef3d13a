"""One run over the lines of a file: starts, follow-ups and results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Any, Generic

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.exceptions import TimeoutError as WorkflowTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from temporal_fleet.client.calls import Pace, PatientCalls, rpc_text
from temporal_fleet.errors import (
    ConnectionFailedError,
    DecryptionError,
    FleetError,
)
from temporal_fleet.sdk_internals import WorkflowDefinition
from temporal_fleet.starting.choice import choose_start
from temporal_fleet.starting.lines import (
    LineResult,
    LineStatus,
    ModelT,
    StartReport,
    TooLong,
    parse_line,
)
from temporal_fleet.workload import WorkflowStart, Workload

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 50
"""Starts under way at once. The dev server takes no more per second with more of them."""

PATIENCE = timedelta(minutes=1)
"""How long one call is repeated while the server is away or busy."""
_FOLLOW_UPS = 1000
_RESULTS_AT_ONCE = 200


async def start_all(
    client: Client,
    workload: Workload[Any, Any],
    lines: AsyncIterable[bytes | TooLong],
    *,
    start: str | None = None,
    task_queue: str | None = None,
    rate: float | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    wait: bool = False,
    wait_timeout: timedelta | None = None,
    on_line: Callable[[LineResult], None] | None = None,
    report: StartReport | None = None,
) -> StartReport:
    """Start one workflow for each line, and deliver what the workload says follows.

    Args:
        client: Connected to the server and namespace.
        workload: Whose ``start`` says what a line is and what it starts.
        lines: Lines of JSON; empty ones are skipped.
        start: Name of the start; None = the only one.
        task_queue: Where to start; None = the workload's own.
        rate: Most starts per second; None = no limit.
        concurrency: Most starts under way at once.
        wait: Wait for the results. The IDs of all started workflows are kept until then.
        wait_timeout: Longest wait for results after the last start; None = no limit.
        on_line: Called with what became of each line, when that is known.
        report: Counted in as things happen, so that a caller can show progress; None makes one.

    Returns:
        The report, also when lines were rejected or workflows failed.

    Raises:
        WorkloadError: When the workload has no such start, or several and none was named.
        ConnectionFailedError: When the server refuses us, or stays away for a minute. What was
            started stays started, and another run goes on from there.
    """
    counted = report or StartReport()
    chosen = choose_start(workload, start)
    queue = task_queue or workload.default_task_queue
    starter = await _starter(client, chosen, queue, on_line, counted)
    began = time.monotonic()
    try:
        with _first_of_a_group():
            await starter.run(
                lines, Pace(rate), concurrency=concurrency, wait_timeout=wait_timeout, wait=wait
            )
    finally:
        counted.elapsed = timedelta(seconds=time.monotonic() - began)
    return counted


async def _starter(
    client: Client,
    start: WorkflowStart[Any],
    task_queue: str,
    on_line: Callable[[LineResult], None] | None,
    report: StartReport,
) -> _Starter[Any]:
    calls = PatientCalls(client, patience=PATIENCE, on_retry=report.count_retry)
    return _Starter(
        client,
        start,
        calls=calls,
        task_queue=task_queue,
        search_attributes=await _known_search_attributes(client, calls),
        on_line=on_line or (lambda _: None),
        report=report,
    )


@contextmanager
def _first_of_a_group() -> Iterator[None]:
    """Raise one error where several tasks met it: a lost server, or a file that cannot be read."""
    try:
        yield
    except BaseExceptionGroup as group:
        # OSError: also when nobody is left to read our output.
        told, _ = group.split((FleetError, OSError))
        if told is None:
            raise
        raise _first(told) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _known_search_attributes(client: Client, calls: PatientCalls) -> frozenset[str]:
    """Return the names of the namespace's search attributes; none when the server cannot tell."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    what = "list the search attributes"

    async def ask() -> frozenset[str]:
        try:
            answer = await client.operator_service.list_search_attributes(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:  # the namespace
                raise calls.refused(error, what) from error
            if error.status not in {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED}:
                raise
            log.info("search attributes are left out: the server does not list them (%s)", error)
            return frozenset()
        return frozenset(answer.custom_attributes) | frozenset(answer.system_attributes)

    return await calls.call(ask, what)


class _Starter(Generic[ModelT]):
    """One run over one file."""

    def __init__(
        self,
        client: Client,
        start: WorkflowStart[ModelT],
        *,
        calls: PatientCalls,
        task_queue: str,
        search_attributes: frozenset[str],
        on_line: Callable[[LineResult], None],
        report: StartReport,
    ) -> None:
        self._client = client
        self._server = calls
        self._start = start
        self._task_queue = task_queue
        self._search_attributes = search_attributes
        self._on_line = on_line
        self.report = report
        # The SDK offers no public way from a workflow class to its run method and result type.
        definition = WorkflowDefinition.must_from_class(start.workflow)
        self._run_method: Any = definition.run_fn
        self._result_type: type | None = definition.ret_type
        self._follow_ups = asyncio.Semaphore(_FOLLOW_UPS)
        self._running: dict[int, LineResult] = {}
        self._to_await: asyncio.Queue[LineResult | None] = asyncio.Queue()

    async def run(
        self,
        lines: AsyncIterable[bytes | TooLong],
        pace: Pace,
        *,
        concurrency: int,
        wait_timeout: timedelta | None,
        wait: bool,
    ) -> None:
        async with asyncio.TaskGroup() as results:
            waiters = [
                results.create_task(self._await_results())
                for _ in range(_RESULTS_AT_ONCE if wait else 0)
            ]
            await self._start_lines(lines, pace, concurrency, wait=wait)
            for _ in waiters:
                self._to_await.put_nowait(None)
            if waiters:
                _, late = await asyncio.wait(
                    waiters, timeout=None if wait_timeout is None else wait_timeout.total_seconds()
                )
                for waiter in late:
                    waiter.cancel()
        self._give_up_waiting(wait_timeout)

    async def _start_lines(
        self, lines: AsyncIterable[bytes | TooLong], pace: Pace, concurrency: int, *, wait: bool
    ) -> None:
        slots = asyncio.Semaphore(concurrency)
        number = 0
        async with asyncio.TaskGroup() as starts:
            async for raw in lines:
                number += 1
                self.report.bytes_read += raw.length if isinstance(raw, TooLong) else len(raw)
                if isinstance(raw, bytes) and not raw.strip():
                    continue
                self.report.lines += 1
                prepared = self._prepare(number, raw)
                if prepared is None:
                    continue
                await slots.acquire()
                await self._follow_ups.acquire()
                await asyncio.sleep(pace.reserve(time.monotonic()))
                starts.create_task(self._start_line(number, *prepared, slots, wait=wait))

    def _prepare(self, number: int, raw: bytes | TooLong) -> tuple[ModelT, dict[str, Any]] | None:
        """Make the call for a line; a line that is no good is reported instead."""
        try:
            model = self._parse(number, raw)
            if isinstance(model, str):
                self._finish(LineResult(line=number, status=LineStatus.REJECTED, reason=model))
                return None
            call = {
                "id": self._start.workflow_id(model),
                "arg": self._start.argument(model),
                "search_attributes": self._attributes(model),
            }
        except Exception as error:  # noqa: BLE001 - the workload's code; one bad line stops nothing
            reason = f"the workload cannot use it: {type(error).__name__}: {error}"
            self._finish(LineResult(line=number, status=LineStatus.REJECTED, reason=reason))
            return None
        return model, call

    def _parse(self, number: int, raw: bytes | TooLong) -> ModelT | str:
        if isinstance(raw, TooLong):
            return str(raw)
        return parse_line(
            raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, self._start.model
        )

    def _attributes(self, model: ModelT) -> TypedSearchAttributes | None:
        if self._start.search_attributes is None:
            return None
        wanted = self._start.search_attributes(model).search_attributes
        known = [pair for pair in wanted if pair.key.name in self._search_attributes]
        return TypedSearchAttributes(known) if known else None

    async def _start_line(
        self,
        number: int,
        model: ModelT,
        call: dict[str, Any],
        slots: asyncio.Semaphore,
        *,
        wait: bool,
    ) -> None:
        try:
            try:
                result = await self._start_workflow(number, call)
            finally:
                slots.release()
            if result.status is not LineStatus.FAILED:
                result = await self._follow_up(result, model)
        finally:
            self._follow_ups.release()
        if wait and result.workflow_id and result.status is not LineStatus.FAILED:
            self._running[number] = result
            self._to_await.put_nowait(result)
        else:
            self._finish(result)

    async def _start_workflow(self, number: int, call: dict[str, Any]) -> LineResult:
        async def start() -> None:
            await self._client.start_workflow(
                self._run_method,
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                # Not USE_EXISTING: its answer does not say whether something was started.
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                **call,
            )

        known = LineResult(line=number, status=LineStatus.STARTED, workflow_id=call["id"])
        began = time.monotonic()
        try:
            await self._server.call(start, f"start line {number}")
        except WorkflowAlreadyStartedError:
            return replace(known, status=LineStatus.ALREADY_THERE)
        except RPCError as error:
            # The namespace, as there is no workflow yet.
            if error.status is RPCStatusCode.NOT_FOUND:
                raise self._server.refused(error, f"start line {number}") from error
            return replace(known, status=LineStatus.FAILED, reason=rpc_text(error))
        self.report.start_latencies.append(time.monotonic() - began)
        return known

    async def _follow_up(self, known: LineResult, model: ModelT) -> LineResult:
        if self._start.follow_up is None:
            return known
        handle = self._handle(known)
        try:
            if known.status is LineStatus.ALREADY_THERE and not await self._is_running(handle):
                return known
            await self._start.follow_up(handle, model)
        except ConnectionFailedError:
            raise
        except Exception as error:  # noqa: BLE001 - the workload's code; one bad line stops nothing
            reason = f"started, but its follow-up failed: {type(error).__name__}: {error}"
            return replace(known, status=LineStatus.FAILED, reason=reason)
        return known

    async def _is_running(self, handle: WorkflowHandle[Any, Any]) -> bool:
        description = await self._server.call(handle.describe, f"look at {handle.id}")
        return description.status is WorkflowExecutionStatus.RUNNING

    def _handle(self, known: LineResult) -> WorkflowHandle[Any, Any]:
        assert known.workflow_id is not None
        return self._client.get_workflow_handle(known.workflow_id, result_type=self._result_type)

    async def _await_results(self) -> None:
        while (known := await self._to_await.get()) is not None:
            try:
                ended = await self._ending(known)
            except RPCError as error:
                # Gone: deleted by hand, or its time of retention has passed.
                ended = replace(known, outcome="lost", reason=rpc_text(error))
            except DecryptionError as error:
                ended = replace(known, outcome="unreadable", reason=str(error))
            del self._running[known.line]
            self._finish(ended)

    async def _ending(self, known: LineResult) -> LineResult:
        handle = self._handle(known)
        outcome, result = await self._outcome(handle)
        description = await self._server.call(handle.describe, f"look at {handle.id}")
        duration = None
        if description.close_time is not None:
            duration = description.close_time - description.start_time
        return replace(known, outcome=outcome, result=result, duration=duration)

    async def _outcome(self, handle: WorkflowHandle[Any, Any]) -> tuple[str, object]:
        try:
            result = await self._server.call(handle.result, f"get the result of {handle.id}")
        except WorkflowFailureError as error:
            return _failure_name(error.cause), _told(error.cause)
        return _state_of(result), result

    def _give_up_waiting(self, timeout: timedelta | None) -> None:
        if self._running and timeout is not None:
            log.warning(
                "%d workflows still running when the wait timeout of %g s passed",
                len(self._running),
                timeout.total_seconds(),
            )
        for known in self._running.values():
            self._finish(replace(known, outcome="still running"))
        self._running.clear()

    def _finish(self, result: LineResult) -> None:
        self.report.counts[result.status] += 1
        if result.reason is not None:
            self.report.rejected.append(result)
        if result.outcome is not None:
            self.report.outcomes[result.outcome] += 1
        if result.duration is not None:
            self.report.durations.append(result.duration.total_seconds())
        self._on_line(result)


def _failure_name(cause: BaseException) -> str:
    names = {
        CancelledError: "canceled",
        TerminatedError: "terminated",
        WorkflowTimeoutError: "timed out",
    }
    return next((name for kind, name in names.items() if isinstance(cause, kind)), "failed")


def _told(error: BaseException) -> str:
    """Return the messages of a failure and its causes: `Activity task failed` alone tells nothing."""
    texts = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        texts.append(str(error))
    return ": ".join(texts)


def _state_of(result: object) -> str:
    state = getattr(result, "state", None)
    if isinstance(state, Enum):
        return str(state.value)
    return state if isinstance(state, str) and state else "completed"
