"""The process pool of CPU-bound activities and its children."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import signal
import sys
import threading
import time
import typing
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cpu_sample
import psutil
import pytest
import structlog
from cpu_sample import Batch, Total
from structlog.testing import capture_logs
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment

from temporal_fleet import cpu_bound
from temporal_fleet.errors import FleetError, WorkloadImportError
from temporal_fleet.execution import (
    CallNotPossibleError,
    PoolClosedError,
    ProcessDiedError,
    ProcessPool,
    current_pool,
    running_process_pool,
)
from temporal_fleet.log_context import activity_ids


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    """A pool of one process that has imported the functions of these tests."""
    async with running_process_pool(1, ["cpu_sample"]) as started:
        yield started


async def until(condition: Callable[[], Any], *, timeout: float = 15) -> Any:
    """Wait for something in other processes that sends no event."""
    async with asyncio.timeout(timeout):
        while not (value := condition()):
            await asyncio.sleep(0.01)
    return value


def marked_pids(folder: Path) -> list[int]:
    """Return the process IDs for which an activity left a file."""
    return [int(path.suffix[1:]) for path in folder.glob("computing.*")]


def is_gone(pid: int) -> bool:
    """Tell whether a process ended; a zombie that nobody of ours can reap counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def activity_environment(
    *,
    start_to_close: timedelta | None = None,
    heartbeat: timedelta | None = None,
) -> ActivityEnvironment:
    """Return an environment of an activity with these timeouts."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        activity_type="compute",
        start_to_close_timeout=start_to_close,
        heartbeat_timeout=heartbeat,
    )
    return environment


def test_cpu_bound_function_keeps_its_interface() -> None:
    """The SDK sees an ordinary async activity with the name, signature and type hints."""
    definition = activity._Definition.must_from_callable(cpu_sample.add_up)

    assert definition.name == "add_up"
    assert definition.is_async
    assert definition.arg_types == [Batch]
    assert definition.ret_type is Total
    assert str(inspect.signature(cpu_sample.add_up)) == "(batch: 'Batch') -> 'Total'"
    assert typing.get_type_hints(cpu_sample.add_up) == {"batch": Batch, "return": Total}
    assert cpu_sample.add_up.__temporal_fleet_cpu_bound__ is True  # type: ignore[attr-defined]


def test_cpu_bound_on_nested_function_is_refused() -> None:
    """A function that a child could not import by name is refused where it is decorated."""

    def nested() -> None: ...

    with pytest.raises(TypeError, match=r"nested is not at the top level of its module.*Move it"):
        cpu_bound(nested)


def test_cpu_bound_on_lambda_is_refused() -> None:
    """A function without a name is refused where it is decorated."""
    anonymous = lambda: None  # noqa: E731
    anonymous.__qualname__ = "<lambda>"

    with pytest.raises(TypeError, match="not at the top level"):
        cpu_bound(anonymous)


async def _asynchronous() -> None: ...


def _generator() -> typing.Iterator[int]:
    yield 1


def test_cpu_bound_on_async_function_is_refused() -> None:
    """An async function is refused, with what to do instead."""
    with pytest.raises(TypeError, match=r"_asynchronous is asynchronous.*remove @cpu_bound"):
        cpu_bound(_asynchronous)


def test_cpu_bound_on_generator_is_refused() -> None:
    """A generator, which has no result to send back, is refused."""
    with pytest.raises(TypeError, match="_generator is a generator"):
        cpu_bound(_generator)


def test_cpu_bound_on_other_callable_is_refused() -> None:
    """Anything but a function is refused."""
    with pytest.raises(TypeError, match="plain functions"):
        cpu_bound(functools.partial(print))


def test_cpu_bound_in_main_script_is_refused() -> None:
    """A function of the script itself is refused, because children do not import the script."""

    def of_script() -> None: ...

    of_script.__module__, of_script.__qualname__ = "__main__", "of_script"

    with pytest.raises(TypeError, match="Move it into a module of its own"):
        cpu_bound(of_script)


async def test_call_without_pool_says_how_to_start_one() -> None:
    """Without a pool the error names the function and the ways to have a pool."""
    assert current_pool() is None
    with pytest.raises(FleetError, match=r"cpu_sample\.add_up is @cpu_bound.*running_process_pool"):
        await cpu_sample.add_up(Batch(numbers=[1]))


async def test_function_runs_in_warm_child(pool: ProcessPool) -> None:
    """The function computes in the pool's child, with pydantic models both ways."""
    total = await ActivityEnvironment().run(cpu_sample.add_up, Batch(numbers=[1, 2]))

    assert total == Total(total=3, pid=pool.pids[0])
    assert pool.pids != [os.getpid()]
    assert (pool.size, pool.in_use, pool.restarts) == (1, 0, 0)


async def test_application_error_of_child_arrives_whole(pool: ProcessPool) -> None:
    """An ApplicationError keeps type, details, retryability and delay, and has a traceback."""
    with pytest.raises(ApplicationError) as caught:
        await cpu_sample.fail("application")

    error = caught.value
    assert (error.message, error.type, error.non_retryable) == ("no stock", "OutOfStock", True)
    assert error.details == ({"sku": 7},)
    assert error.next_retry_delay == timedelta(seconds=3)
    assert "raise ApplicationError" in str(error.__cause__)


async def test_error_of_child_keeps_its_class(pool: ProcessPool) -> None:
    """Another exception keeps class and message, so that retry policies can name it."""
    with pytest.raises(ValueError, match="three is not a colour") as caught:
        await cpu_sample.fail("value")

    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("kind", "error_type", "message"),
    [
        ("foreign", "ForeignError", "made elsewhere (7)"),
        ("stop", "StopIteration", "the end"),
        ("exit", "SystemExit", "5"),
    ],
)
async def test_error_that_cannot_cross_keeps_its_name(
    pool: ProcessPool, kind: str, error_type: str, message: str
) -> None:
    """What cannot be rebuilt here is an ApplicationError of the same type and message."""
    with pytest.raises(ApplicationError) as caught:
        await cpu_sample.fail(kind)

    assert (caught.value.type, caught.value.message) == (error_type, message)
    assert caught.value.non_retryable is False
    assert "in fail" in str(caught.value.__cause__)
    assert pool.restarts == 0


async def test_unpicklable_argument_is_named(pool: ProcessPool) -> None:
    """An argument that cannot be pickled is a clear error, and no process is used up."""
    with pytest.raises(CallNotPossibleError, match=r"arguments of cpu_sample\.survive.*lock"):
        await cpu_sample.survive(typing.cast(int, threading.Lock()))

    assert pool.in_use == 0


async def test_unpicklable_result_is_an_error_of_the_activity(pool: ProcessPool) -> None:
    """A result that cannot be pickled fails the attempt with its type, and the pool goes on."""
    environment = activity_environment()
    with pytest.raises(ApplicationError, match=r"(?s)result of type function.*lambda") as caught:
        await environment.run(cpu_sample.fail, "result")

    assert caught.value.type == "CallNotPossible"
    assert await cpu_sample.survive(signal.SIGINT) == "still here"


async def test_function_unknown_to_child_is_an_error(pool: ProcessPool) -> None:
    """A function that the child does not find is named, and nothing hangs."""
    with pytest.raises(CallNotPossibleError, match=r"cannot find cpu_sample\.missing"):
        await pool.run("cpu_sample", "missing", (), {})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickling", "activity 'compute': process {pid} was killed by SIGKILL"),
        ("hard exit", "activity 'compute': process {pid} ended with exit code 5"),
    ],
)
async def test_dead_child_fails_its_attempt_only(
    pool: ProcessPool, kind: str, message: str
) -> None:
    """A process that dies fails its attempt with the retryable type ProcessDied and is replaced."""
    message = message.format(pid=pool.pids[0])
    with pytest.raises(ApplicationError, match=message) as caught:
        await activity_environment().run(cpu_sample.fail, kind)

    assert (caught.value.type, caught.value.non_retryable) == ("ProcessDied", False)
    assert (await cpu_sample.add_up(Batch(numbers=[1]))).total == 1
    assert pool.restarts == 1


async def test_killed_child_leaves_other_calls_alone(tmp_path: Path) -> None:
    """When one of two busy children is killed, the other one finishes its call."""
    async with running_process_pool(2, ["cpu_sample"]) as pool:
        calls = [asyncio.create_task(cpu_sample.compute(str(tmp_path), 1)) for _ in range(2)]
        pids = await until(lambda: len(marked_pids(tmp_path)) == 2 and marked_pids(tmp_path))
        assert pool.in_use == 2
        os.kill(pids[0], signal.SIGKILL)
        results = await asyncio.gather(*calls, return_exceptions=True)

        assert sum(result == pids[1] for result in results) == 1
        assert sum(isinstance(result, ProcessDiedError) for result in results) == 1


async def test_idle_child_killed_is_replaced(pool: ProcessPool) -> None:
    """A process that dies while it has nothing to do is replaced without losing any call."""
    killed = pool.pids[0]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: pool.restarts)

    assert (await cpu_sample.add_up(Batch(numbers=[4]))).pid not in (killed, os.getpid())


@pytest.mark.parametrize("turns", range(10))
def test_pool_closed_while_a_child_is_replaced_leaves_no_process(turns: int) -> None:
    """However far the start of a replacement has come, closing the pool ends it and waits for its end."""

    async def close_during_replacement() -> None:
        pool = ProcessPool(1)
        await pool.start()
        os.kill(pool.pids[0], signal.SIGKILL)
        while not pool.restarts:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await pool.close()

    asyncio.run(close_during_replacement())
    gc.collect()  # a process that nobody waited for is a warning now, and so a failure


async def test_cancelled_call_stops_its_child(pool: ProcessPool, tmp_path: Path) -> None:
    """Cancelling ends the computation at once; the next call gets a new process."""
    call = asyncio.create_task(cpu_sample.compute(str(tmp_path), 60))
    [pid] = await until(lambda: marked_pids(tmp_path))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await until(lambda: is_gone(pid))
    assert (await cpu_sample.add_up(Batch(numbers=[4]))).pid != pid


async def test_cancelled_call_stops_what_its_child_started(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """Programs that the function started are stopped with it."""
    call = asyncio.create_task(cpu_sample.start_program(str(tmp_path)))
    [program] = await until(lambda: marked_pids(tmp_path))
    call.cancel()

    await until(lambda: is_gone(program))


async def test_child_that_closes_its_connection_is_not_told_as_killed(pool: ProcessPool) -> None:
    """A function that closes all descriptors and lives on costs its attempt, and the error says what it did."""
    with pytest.raises(ProcessDiedError, match="closed its connection to the worker") as died:
        await cpu_sample.close_all_descriptors()

    assert "memory" not in str(died.value)
    assert died.value.exit_status is None


async def test_error_whose_text_cannot_be_read_costs_no_process(pool: ProcessPool) -> None:
    """An exception without a readable text fails its attempt like any other."""
    [pid] = pool.pids
    with pytest.raises(
        ApplicationError, match="its text cannot be read, ZeroDivisionError"
    ) as mute:
        await cpu_sample.raise_mute()

    assert mute.value.type == "MuteError"
    assert pool.pids == [pid]


async def test_killed_child_with_heirs_does_not_hang(pool: ProcessPool, tmp_path: Path) -> None:
    """A dead child is noticed although others hold its connection; its programs end with it."""
    began = time.monotonic()
    with pytest.raises(ProcessDiedError):
        await cpu_sample.die_with_heirs(str(tmp_path))

    assert time.monotonic() - began < 4
    [program] = marked_pids(tmp_path)
    await until(lambda: is_gone(program))


async def test_call_cancelled_while_waiting_uses_no_child(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """A call that is cancelled before a process is free costs none."""
    first = asyncio.create_task(cpu_sample.compute(str(tmp_path), 0.5))
    await until(lambda: pool.in_use)
    second = asyncio.create_task(cpu_sample.compute(str(tmp_path), 60))
    await asyncio.sleep(0)
    second.cancel()

    assert await first == pool.pids[0]
    assert pool.restarts == 0


async def test_draining_pool_gives_waiting_calls_back_and_lets_running_ones_end(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """No computation begins late in a stopping worker; the one that runs ends in its own time."""
    first = asyncio.create_task(cpu_sample.compute(str(tmp_path), 0.5))
    await until(lambda: pool.in_use)
    environment = activity_environment()
    second = asyncio.create_task(environment.run(cpu_sample.compute, str(tmp_path), 60))
    await until(lambda: pool.waiting)
    pool.drain()

    with pytest.raises(ApplicationError, match="no process was free") as given_back:
        await second
    assert given_back.value.type == "WorkerShutdown"
    assert not given_back.value.non_retryable
    with pytest.raises(PoolClosedError, match="no process was free"):
        await cpu_sample.compute(str(tmp_path), 60)
    assert not first.done()
    assert await first == pool.pids[0]
    assert await cpu_sample.compute(str(tmp_path), 0) == pool.pids[0], "a free process may begin"
    assert pool.waiting == 0


async def test_start_to_close_timeout_stops_the_child(pool: ProcessPool, tmp_path: Path) -> None:
    """Work that the server no longer waits for is stopped, and the log says so."""
    environment = activity_environment(start_to_close=timedelta(seconds=0.3))
    with (
        capture_logs() as lines,
        pytest.raises(ApplicationError, match=r"timeout of 0\.3 s") as caught,
    ):
        await environment.run(cpu_sample.compute, str(tmp_path), 60)

    assert caught.value.type == "StartToCloseTimeout"
    [pid] = marked_pids(tmp_path)
    await until(lambda: is_gone(pid))
    [line] = [line for line in lines if "start-to-close timeout passed" in line["event"]]
    assert (line["pid"], line["timeout_seconds"]) == (pid, 0.3)


@pytest.mark.parametrize("busy", [False, True])
async def test_heartbeats_are_sent_while_computing_and_while_waiting(
    pool: ProcessPool, tmp_path: Path, busy: bool
) -> None:
    """The worker heartbeats in time, and what an earlier attempt has reported stays known."""
    before = [asyncio.create_task(cpu_sample.compute(str(tmp_path), 0.65))] if busy else []
    await until(lambda: pool.in_use == len(before))
    environment = activity_environment(heartbeat=timedelta(seconds=0.3))
    environment.info = replace(environment.info, heartbeat_details=["page", 7])
    beats: list[tuple[Any, ...]] = []
    environment.on_heartbeat = lambda *details: beats.append(details)
    await environment.run(cpu_sample.compute, str(tmp_path), 0 if busy else 0.65)
    await asyncio.gather(*before)

    assert len(beats) >= 3
    assert set(beats) == {("page", 7)}


async def test_function_reports_progress_and_goes_on_from_it(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """A function's heartbeat details reach the worker in order, and the next attempt finds the last of them."""
    environment = activity_environment()
    beats: list[Any] = []
    environment.on_heartbeat = beats.append
    with pytest.raises(ApplicationError) as died:
        await environment.run(cpu_sample.count, str(tmp_path), 9, 3)
    environment.info = replace(environment.info, attempt=2, heartbeat_details=[beats[-1]])

    assert died.value.type == "ProcessDied"
    assert beats == [1, 2, 3, 4]
    assert await environment.run(cpu_sample.count, str(tmp_path), 9, 3) == [4, 9, 2]
    assert beats == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("seconds", [0, 60])
async def test_flood_of_heartbeats_is_thinned_and_its_last_one_arrives(
    pool: ProcessPool, seconds: float
) -> None:
    """Of thousands of heartbeats few cross to the worker, the last one within a second or at the end."""
    environment = activity_environment()
    beats: list[int] = []
    environment.on_heartbeat = beats.append
    call = asyncio.create_task(environment.run(cpu_sample.flood, 5000, seconds))
    await until(lambda: beats and beats[-1] == 4999)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert len(beats) < 1000
    assert beats == sorted(beats)


@pytest.mark.parametrize(
    ("kind", "type_", "text"),
    [
        ("lambda", None, "pickle"),
        ("foreign", "CallNotPossible", "cannot unpickle heartbeat details"),
    ],
)
async def test_heartbeat_details_that_cannot_cross_fail_the_attempt(
    pool: ProcessPool, kind: str, type_: str | None, text: str
) -> None:
    """Details that cannot be pickled are an error in the function; those that cannot be read, its attempt's."""
    with pytest.raises(Exception, match=text) as caught:
        await activity_environment().run(cpu_sample.heartbeat_strangely, kind)

    assert getattr(caught.value, "type", None) == type_


@pytest.fixture
async def patient_pool() -> AsyncIterator[ProcessPool]:
    """A pool of one process that waits long for a function to end by itself."""
    async with running_process_pool(1, ["cpu_sample"], stop_grace=timedelta(seconds=40)) as started:
        yield started


@pytest.mark.parametrize("way", ["is_cancelled", "wait"])
async def test_cancelled_function_that_asks_ends_by_itself(
    patient_pool: ProcessPool, tmp_path: Path, way: str
) -> None:
    """It hears that it is cancelled and why, and what it returns then is the result; its process stays."""
    environment = activity_environment()
    call = asyncio.create_task(environment.run(cpu_sample.stop_when_asked, str(tmp_path), way))
    [pid] = await until(lambda: marked_pids(tmp_path))
    environment.cancel(activity.ActivityCancellationDetails(worker_shutdown=True))

    assert await call == f"{pid} True True"
    assert patient_pool.pids == [pid]


async def test_heartbeat_of_a_cancelled_function_raises_once(
    patient_pool: ProcessPool, tmp_path: Path
) -> None:
    """As in a thread the SDK's CancelledError is raised, so that `finally` blocks run; the process stays."""
    environment = activity_environment()
    call = asyncio.create_task(
        environment.run(cpu_sample.stop_when_asked, str(tmp_path), "heartbeat")
    )
    [pid] = await until(lambda: marked_pids(tmp_path))
    environment.cancel()

    with pytest.raises(CancelledError):
        await call
    assert Path(tmp_path, "tidied").exists()
    assert patient_pool.pids == [pid]
    assert (await cpu_sample.add_up(Batch(numbers=[4]))).pid == pid


async def test_function_hears_that_the_worker_stops(
    patient_pool: ProcessPool, tmp_path: Path
) -> None:
    """From the beginning of a drain on, running functions and those that begin late can ask for it."""
    environment = activity_environment()
    call = asyncio.create_task(
        environment.run(cpu_sample.stop_when_asked, str(tmp_path), "shutdown")
    )
    [pid] = await until(lambda: marked_pids(tmp_path))
    patient_pool.drain()

    assert await call == f"{pid} False None"
    late = activity_environment().run(cpu_sample.stop_when_asked, str(tmp_path), "shutdown")
    assert await late == f"{pid} False None"


async def test_function_that_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    """When the stop grace is over the process is killed, and the log says so."""
    async with running_process_pool(1, ["cpu_sample"], stop_grace=timedelta(seconds=0.2)):
        environment = activity_environment()
        call = asyncio.create_task(environment.run(cpu_sample.never_stop, str(tmp_path)))
        [pid] = await until(lambda: marked_pids(tmp_path))
        await asyncio.sleep(0.1)  # it has asked by then; no event tells so
        with capture_logs() as lines:
            environment.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    assert is_gone(pid)
    [line] = [line for line in lines if line["event"] == "stop grace passed, process killed"]
    assert (line["pid"], line["stop_grace_seconds"]) == (pid, 0.2)


async def test_start_to_close_timeout_gives_a_function_that_asks_the_stop_grace(
    patient_pool: ProcessPool, tmp_path: Path
) -> None:
    """A function that heartbeats may tidy up after its time is over; the attempt has failed all the same."""
    environment = activity_environment(start_to_close=timedelta(seconds=1))
    with pytest.raises(ApplicationError) as caught:
        await environment.run(cpu_sample.stop_when_asked, str(tmp_path), "heartbeat")

    assert caught.value.type == "StartToCloseTimeout"
    assert Path(tmp_path, "tidied").exists()
    assert patient_pool.pids == marked_pids(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_group_do_not_end_children(pool: ProcessPool, number: int) -> None:
    """Only the worker ends its children: Ctrl-C and a SIGTERM to everything leave them working."""
    assert await cpu_sample.survive(number) == "still here"


async def test_log_context_reaches_the_child(pool: ProcessPool) -> None:
    """Log lines of the child carry the IDs and what is bound here, except what cannot be pickled."""
    token = activity_ids.set({"workflow_id": "w-1"})
    with structlog.contextvars.bound_contextvars(order=2, lock=threading.Lock()):
        assert await cpu_sample.read_log_context() == {"workflow_id": "w-1", "order": 2}
    activity_ids.reset(token)

    assert await cpu_sample.read_log_context() == {}


async def test_initializer_runs_in_every_child() -> None:
    """The initializer, which configures logging in a worker, runs before anything else."""
    async with running_process_pool(1, initializer=cpu_sample.prepare_logging):
        assert await cpu_sample.read_log_level() == 37


async def test_failing_warm_import_ends_the_start(tmp_path: Path) -> None:
    """A module that cannot be imported is named with its traceback, and no child is left."""
    before = set(psutil.Process().children())
    pool = ProcessPool(2, warm_imports=["cpu_sample", "no_such_module"])
    with pytest.raises(WorkloadImportError, match=r"(?s)'no_such_module'.*ModuleNotFound"):
        await pool.start()

    assert pool.pids == []
    assert set(psutil.Process().children()) == before


async def test_child_that_dies_at_start_ends_the_start() -> None:
    """A child that ends while it starts is an error with its exit code."""
    with pytest.raises(FleetError, match="ended with exit code 9"):
        await ProcessPool(1, initializer=cpu_sample.die_at_once).start()


async def test_slow_start_ends_with_an_error() -> None:
    """A start that takes too long ends with the limit in the message, and no child is left."""
    pool = ProcessPool(1, initializer=cpu_sample.take_long)
    with pytest.raises(FleetError, match=r"not ready after 0\.5 s"):
        await pool.start(timedelta(seconds=0.5))

    assert pool.pids == []


async def test_close_stops_busy_children_at_once(tmp_path: Path) -> None:
    """Closing ends a running call with PoolClosedError, within a bounded time."""
    async with running_process_pool(1, ["cpu_sample"]):
        busy = asyncio.create_task(cpu_sample.compute(str(tmp_path), 60))
        waiting = asyncio.create_task(cpu_sample.compute(str(tmp_path), 60))
        [pid] = await until(lambda: marked_pids(tmp_path))
        began = time.monotonic()

    assert time.monotonic() - began < 2
    assert is_gone(pid)
    for call in (busy, waiting):
        with pytest.raises(PoolClosedError):
            await call
    assert current_pool() is None


async def test_stopped_child_is_killed_at_close() -> None:
    """An idle child that does not react is killed when its time is over, and the log says so."""
    pool = ProcessPool(1)
    await pool.start()
    [pid] = pool.pids
    os.kill(pid, signal.SIGSTOP)
    with capture_logs() as lines:
        await pool.close(timedelta(seconds=0.2))

    assert is_gone(pid)
    assert "idle processes did not end, killed" in [line["event"] for line in lines]


async def test_killed_parent_takes_children_along(tmp_path: Path) -> None:
    """A worker that is killed leaves no computing child behind."""
    program = (
        "import asyncio, sys, cpu_sample\n"
        "from temporal_fleet.execution import running_process_pool\n"
        "async def main():\n"
        "    async with running_process_pool(1, ['cpu_sample']):\n"
        "        await cpu_sample.compute(sys.argv[1], 60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path)),
        env={**os.environ, "PYTHONPATH": str(Path(cpu_sample.__file__).parent)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        [pid] = await until(lambda: marked_pids(tmp_path))
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        await parent.wait()

    await until(lambda: is_gone(pid))
