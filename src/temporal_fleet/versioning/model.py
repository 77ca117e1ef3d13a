"""The words that plans are made of: what is wanted, what Temporal says, and what is to be done.

Nothing here talks to anybody. Observations are filled in by :mod:`temporal_fleet.rollout`, which also
carries plans out; decisions are functions from these values to these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

UNVERSIONED: Final = "__unversioned__"
"""Temporal's own name for workers without versioning; stands where a build ID would."""

VERSION_CAP: Final = 100
"""Most versions the server keeps per Worker Deployment by default.

Source: dynamic configuration ``matching.maxVersionsInDeployment`` of the Temporal server.
"""


class BuildStatus(StrEnum):
    """What the server says of a version of a Worker Deployment."""

    INACTIVE = "inactive"
    """Registered, never received traffic by routing."""
    CURRENT = "current"
    RAMPING = "ramping"
    DRAINING = "draining"
    """Replaced; may still have open pinned workflows."""
    DRAINED = "drained"
    """Replaced, and the server has seen no open pinned workflow."""


@dataclass(frozen=True)
class Routing:
    """Which build gets new work."""

    current: str | None
    """Build ID, :data:`UNVERSIONED`, or None when nobody has said yet (the server routes to unversioned)."""
    ramping: str | None = None
    """Build ID or :data:`UNVERSIONED`; None = nothing is ramping."""
    percentage: float = 0
    """Share of new work for the ramping build, 0 to 100."""


class RolloutMode(StrEnum):
    """Who changes the routing."""

    MANUAL = "manual"
    ALL_AT_ONCE = "all-at-once"


class Risk(StrEnum):
    """What a change of the routing may do to task queues once somebody has said so."""

    MISSING_TASK_QUEUES = "missing-task-queues"
    """A build gets new work that lacks a task queue of the current build."""
    SHARED_TASK_QUEUES = "shared-task-queues"
    """New work is taken from another Worker Deployment at the same task queue."""


@dataclass(frozen=True)
class Place:
    """Where the workers of a Worker Deployment poll."""

    address: str
    """``host:port`` of the server."""
    namespace: str
    task_queue: str
    """The workload's name where it is left to the workload, which is how workloads name it by default."""


@dataclass(frozen=True)
class DesiredDeployment:
    """What the values say about one Worker Deployment."""

    queue: str
    """Key of the task queue in the values."""
    deployment: str
    """Name of the Worker Deployment in Temporal."""
    builds: Mapping[str, str]
    """Key of a build in the values → its build ID, or :data:`UNVERSIONED`."""
    routing: Routing
    mode: RolloutMode = RolloutMode.ALL_AT_ONCE
    allow_ramp_down: bool = False
    """Whether the ramp may go back to a smaller percentage."""
    accepted: frozenset[Risk] = frozenset()
    """What may happen to task queues."""
    task_queue: str | None = None
    """Task queue in Temporal; None = nobody said, since the workload names its own. Only needed to find workers
    without versioning before any build has registered its task queues."""
    place: Place | None = None
    """Where its workers poll; None = nobody said."""
    workers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Build ID → keys in the values that run workers of it → the workload that each runs; empty = nobody said.
    Several keys share a Worker Deployment where one runs the workflows and another the activities."""


@dataclass(frozen=True)
class PolledTaskQueue:
    """One type of tasks of one task queue that a build has registered."""

    name: str
    type: Literal["workflow", "activity", "nexus"]
    pollers: int
    """Processes of this build that polled it within the last minute."""
    backlog: int = 0
    """Tasks of this build that wait, approximately."""
    backlog_age: timedelta = timedelta(0)


@dataclass(frozen=True)
class OpenRun:
    """A workflow run that is open."""

    workflow_id: str
    run_id: str
    workflow_type: str
    started: datetime


@dataclass(frozen=True)
class OpenRuns:
    """Open workflow runs of a build."""

    count: int
    sample: tuple[OpenRun, ...] = ()
    """The oldest ones, at most ten."""


@dataclass(frozen=True)
class ObservedBuild:
    """One version of a Worker Deployment as the server describes it."""

    build_id: str
    """Build ID; workers without versioning are described under :data:`UNVERSIONED`."""
    status: BuildStatus
    task_queues: tuple[PolledTaskQueue, ...] = ()
    open_pinned: OpenRuns = OpenRuns(0)
    """Open runs that are pinned to it, by their workflow or by an override."""
    open_runs: OpenRuns = OpenRuns(0)
    """Every open run that it worked on last: pinned, auto-upgrade and, for :data:`UNVERSIONED`, those without
    versioning. Needed only where a whole Worker Deployment is removed."""
    created: datetime | None = None
    """When the server first saw it; None when unknown (always for unversioned workers)."""
    last_current: datetime | None = None
    """When it was last made current; None = never, or unknown."""
    drainage_changed: datetime | None = None
    """Since when it is draining or drained."""
    drainage_checked: datetime | None = None

    @property
    def missing_pollers(self) -> tuple[PolledTaskQueue, ...]:
        """What this build has registered and no worker polls now."""
        return tuple(each for each in self.task_queues if not each.pollers)

    @property
    def is_polled(self) -> bool:
        """Whether every task queue it has registered is polled now."""
        return bool(self.task_queues) and not self.missing_pollers

    @property
    def has_pollers(self) -> bool:
        """Whether any of its processes polls now."""
        return any(each.pollers for each in self.task_queues)


@dataclass(frozen=True)
class ObservedDeployment:
    """A Worker Deployment as the server describes it at one moment."""

    deployment: str
    exists: bool
    """False when the server knows no such Worker Deployment: no versioned worker has ever polled."""
    routing: Routing
    routing_changed: datetime | None = None
    """When current or ramp were last changed."""
    update_in_progress: bool = False
    """Whether the server is still propagating the last routing change."""
    builds: Mapping[str, ObservedBuild] = field(default_factory=dict)
    """Build ID → what is known of it."""
    sharing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other Worker Deployments that route new work → task queues of this one that their workers poll."""
    manager_identity: str | None = None
    """Who alone may change the routing; None = anybody."""
    version_cap: int = VERSION_CAP
    conflict_token: bytes = b""
    """What the server wants back with a change, so that it notices when others were quicker."""


@dataclass(frozen=True)
class AwaitPollers:
    """Wait until every task queue of a build is polled with its build ID."""

    build_id: str
    reason: str


@dataclass(frozen=True)
class SetRamping:
    """Send a share of new work to a build."""

    build_id: str
    percentage: float
    reason: str
    raises: bool = True
    """Whether the build gets more new work than now. Only then are its workers needed: a share can be taken
    from a build whose workers are gone."""


@dataclass(frozen=True)
class ClearRamping:
    """Send no more new work to the build that is ramping."""

    build_id: str
    """The build that loses its share."""
    reason: str


@dataclass(frozen=True)
class SetCurrent:
    """Send all new work to a build; the ramp of this build, if any, ends with it."""

    build_id: str
    """Build ID or :data:`UNVERSIONED`."""
    reason: str


@dataclass(frozen=True)
class Pause:
    """Leave the routing as it is for a while, so that failures can show."""

    duration: timedelta
    reason: str


@dataclass(frozen=True)
class DeleteBuild:
    """Delete the server's record of a build that is drained and that no worker polls."""

    build_id: str
    reason: str


Step = AwaitPollers | SetRamping | ClearRamping | SetCurrent | Pause | DeleteBuild


@dataclass(frozen=True)
class Plan:
    """What to do, in order; nothing when the server already is as wanted."""

    deployment: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """What people should know although nothing is done about it."""


@dataclass(frozen=True)
class Refusal:
    """Why nothing is done."""

    deployment: str
    reasons: tuple[str, ...]
    """Each says what is wrong, the value, and what to do."""
