"""Workers and commands for tests of rollouts: builds of one small workflow, good and bad ones.

The workflow tells in its result which builds worked on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from temporal_fleet.rollout import Rollout, Server, observe
from temporal_fleet.testing import dev_server
from temporal_fleet.versioning import UNVERSIONED, ObservedDeployment, plan_promote

FAST_DRAINAGE = (
    *("--dynamic-config-value", 'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"'),
    *("--dynamic-config-value", 'matching.wv.VersionDrainageStatusRefreshInterval="1s"'),
    # Pollers are forgotten soon after they have gone, so they must show themselves more often than that.
    *("--dynamic-config-value", 'matching.PollerHistoryTTL="12s"'),
    *("--dynamic-config-value", 'matching.longPollExpirationInterval="5s"'),
)

SHOWN_UNVERSIONED = "image-7"
"""Build ID that workers without versioning show; the server does not route by it."""

ValueT = TypeVar("ValueT")


@activity.defn
async def note() -> None:
    """Do nothing, so that the worker has an activity."""


@workflow.defn(name="Order")
class Order:
    """Waits until it is told to finish; returns the builds that worked on it."""

    def __init__(self) -> None:
        self.finishes = False
        self.builds: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        """Wait, and tell who worked."""
        self._note()
        await workflow.wait_condition(lambda: self.finishes)
        return self.builds

    @workflow.signal
    def poke(self) -> None:
        """Make a worker work on it."""
        self._note()

    @workflow.signal
    def finish(self) -> None:
        """End it."""
        self._note()
        self.finishes = True

    def _note(self) -> None:
        version = workflow.info().get_current_deployment_version()
        name = version.build_id if version else "unversioned"
        if name not in self.builds:
            self.builds.append(name)


@workflow.defn(name="Order")
class BrokenOrder:
    """Gets stuck when it is to finish, as code with a mistake does."""

    def __init__(self) -> None:
        self.finishes = False

    @workflow.run
    async def run(self) -> list[str]:
        """Wait, and break."""
        await workflow.wait_condition(lambda: self.finishes)
        raise RuntimeError("broken code")

    @workflow.signal
    def poke(self) -> None:
        """Make a worker work on it."""

    @workflow.signal
    def finish(self) -> None:
        """Break it."""
        self.finishes = True


@asynccontextmanager
async def fast_server() -> AsyncIterator[Client]:
    """Run a dev server that drains builds within seconds."""
    async with dev_server(extra_args=FAST_DRAINAGE) as environment:
        yield environment.client


@asynccontextmanager
async def build(
    client: Client,
    deployment: str,
    build_id: str,
    *,
    behavior: VersioningBehavior = VersioningBehavior.PINNED,
    order: type = Order,
    with_activities: bool = True,
    cache: int = 100,
    task_queue: str | None = None,
) -> AsyncIterator[None]:
    """Run a worker of a build until the block ends; its task queue is named as the deployment unless given.

    It is registered when the block begins; `UNVERSIONED` stands for a worker without versioning, which
    shows a build ID all the same, as the runtime's workers do.
    """
    versioned = build_id != UNVERSIONED
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment, build_id if versioned else SHOWN_UNVERSIONED),
        use_worker_versioning=versioned,
        default_versioning_behavior=behavior if versioned else VersioningBehavior.UNSPECIFIED,
    )
    worker = Worker(
        client,
        task_queue=task_queue or deployment,
        workflows=[order],
        activities=[note] if with_activities else [],
        workflow_runner=UnsandboxedWorkflowRunner(),
        deployment_config=config,
        identity=f"worker-{build_id}",
        max_cached_workflows=cache,
    )
    kinds = 2 if with_activities else 1
    async with worker:
        await until(
            lambda: observe(Server(client), deployment, with_runs=False),
            lambda seen: (
                build_id in seen.builds
                and len([each for each in seen.builds[build_id].task_queues if each.pollers])
                == kinds
            ),
        )
        yield


async def observed_until(
    client: Client, deployment: str, condition: Callable[[ObservedDeployment], bool]
) -> ObservedDeployment:
    """Observe until a condition holds."""
    return await until(lambda: observe(Server(client), deployment), condition)


async def until(
    read: Callable[[], Awaitable[ValueT]],
    condition: Callable[[ValueT], bool],
    *,
    timeout: float = 40,
) -> ValueT:
    """Read again and again until a condition holds."""
    end = time.monotonic() + timeout
    while True:
        found = await read()
        if condition(found):
            return found
        assert time.monotonic() < end, f"not so after {timeout} s: {found}"
        await asyncio.sleep(0.25)


async def route(client: Client, deployment: str, build_id: str) -> None:
    """Make a build current, or unversioned workers."""
    rollout = Rollout(
        Server(client), deployment, poller_timeout=timedelta(seconds=40), progress=_say_nothing
    )
    await rollout.carry_out(lambda seen, _identity: plan_promote(seen, build_id))


def _say_nothing(_line: str) -> None:
    pass


async def start_orders(
    client: Client, deployment: str, count: int = 1, *, prefix: str = "order"
) -> list[WorkflowHandle[Any, Any]]:
    """Start workflows, called ``<deployment>-<prefix>-<number>``."""
    return [
        await client.start_workflow(
            "Order", id=f"{deployment}-{prefix}-{number}", task_queue=deployment
        )
        for number in range(count)
    ]


async def pinned_count(client: Client, deployment: str, build_id: str) -> int:
    """Return how many open runs are pinned to a build, as far as it is known."""
    seen = await observe(Server(client), deployment)
    return seen.builds[build_id].open_pinned.count


def write_routing(
    file: Path,
    deployment: str,
    builds: dict[str, str],
    current: str,
    *,
    ramping: str = "",
    percentage: float = 0,
    mode: str = "all-at-once",
    temporal: Mapping[str, str] | None = None,
    workers: Mapping[str, str] | None = None,
) -> str:
    """Write a routing file; *builds* are build IDs by key, *workers* workloads by key. Returns its path."""
    queue = {
        "deployment": deployment,
        "builds": {
            key: {
                "buildId": build_id,
                "versioned": build_id != UNVERSIONED,
                "workers": dict(workers or {}),
            }
            for key, build_id in builds.items()
        },
        "routing": {"current": current, "ramping": ramping, "percentage": percentage},
        "rollout": {"mode": mode, "allowRampDown": False},
    }
    document = {
        "apiVersion": "temporal-fleet/v1",
        "release": "fleet",
        **({"temporal": dict(temporal)} if temporal else {}),
        "queues": {deployment: queue},
    }
    file.write_text(json.dumps(document))
    return str(file)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything it printed."""
        return f"{self.out}\n{self.err}"


class RunningCommand:
    """A ``fleet`` process; made by :func:`start_fleet`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def printed(self, text: str) -> str:
        """Wait for a line on standard output that holds a text; returns it."""
        assert self.process.stdout
        async with asyncio.timeout(40):
            while line := (await self.process.stdout.readline()).decode():
                if text in line:
                    return line
        raise AssertionError(f"it ended without saying {text!r}")

    async def ended(self) -> Ended:
        """Wait for the end."""
        async with asyncio.timeout(100):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out.decode(), err.decode())


async def start_fleet(client: Client, *arguments: str, **variables: str) -> RunningCommand:
    """Start ``fleet`` with a client's server, as a process of its own without a terminal."""
    return await _start(client, arguments, variables, asyncio.subprocess.DEVNULL)


async def fleet(
    client: Client, *arguments: str, answer: str | None = None, **variables: str
) -> Ended:
    """Run ``fleet`` to its end; with an answer, it is asked in a terminal."""
    if answer is None:
        return await (await start_fleet(client, *arguments, **variables)).ended()
    async with in_terminal(client, *arguments, **variables) as (command, terminal):
        os.write(terminal, answer.encode())
        return await command.ended()


@asynccontextmanager
async def in_terminal(
    client: Client, *arguments: str, **variables: str
) -> AsyncIterator[tuple[RunningCommand, int]]:
    """Start ``fleet`` in a terminal; yields it and the file descriptor of what is typed."""
    ours, its = os.openpty()
    try:
        yield await _start(client, arguments, variables, its), ours
    finally:
        os.close(its)
        os.close(ours)


async def _start(
    client: Client, arguments: Sequence[str], variables: Mapping[str, str], stdin: int
) -> RunningCommand:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "FLEET_"))}
    environment = {
        **inherited,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_CONFIG_FILE": os.devnull,
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    return RunningCommand(process)
