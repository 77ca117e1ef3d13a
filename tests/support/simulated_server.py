"""A tiny model of how the server keeps a Worker Deployment, on which plans are tried out.

It checks what the server would not forgive or what would lose work: every routing to a build that nobody
polls, every ramp that goes back, every deletion of what is still needed is an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from temporal_fleet.versioning import (
    UNVERSIONED,
    AwaitPollers,
    BuildStatus,
    ClearRamping,
    DeleteBuild,
    ObservedBuild,
    ObservedDeployment,
    OpenRun,
    OpenRuns,
    Pause,
    Plan,
    PolledTaskQueue,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "orders"


class UnsafeStepError(AssertionError):
    """A plan did what must never be done."""


def open_runs(count: int) -> OpenRuns:
    """Return that many open runs, the first ten by name."""
    sample = tuple(
        OpenRun(f"order-{number}", f"run-{number}", "Order", START)
        for number in range(min(count, 10))
    )
    return OpenRuns(count, sample)


def build(
    build_id: str,
    status: BuildStatus = BuildStatus.INACTIVE,
    *,
    pollers: int = 1,
    pinned: int = 0,
    runs: int = 0,
    last_current: int | None = None,
    task_queues: tuple[str, ...] = ("orders",),
) -> ObservedBuild:
    """Return a build as the server describes it; *last_current* counts minutes."""
    return ObservedBuild(
        build_id=build_id,
        status=status,
        task_queues=tuple(
            PolledTaskQueue(name, kind, pollers)
            for name in task_queues
            for kind in ("workflow", "activity")
        ),
        open_pinned=open_runs(pinned),
        open_runs=open_runs(max(pinned, runs)),
        last_current=None if last_current is None else START + timedelta(minutes=last_current),
    )


def deployment(
    *builds: ObservedBuild,
    current: str | None = None,
    ramping: str | None = None,
    percentage: float = 0,
    version_cap: int = 100,
    manager_identity: str | None = None,
    update_in_progress: bool = False,
) -> ObservedDeployment:
    """Return a Worker Deployment as the server describes it."""
    return ObservedDeployment(
        deployment=NAME,
        exists=any(each.build_id != UNVERSIONED for each in builds),
        routing=Routing(current, ramping, percentage),
        builds={each.build_id: each for each in builds},
        version_cap=version_cap,
        manager_identity=manager_identity,
        update_in_progress=update_in_progress,
    )


@dataclass
class SimulatedServer:
    """A Worker Deployment that steps change."""

    observed: ObservedDeployment
    allow_ramp_down: bool = False
    starts: frozenset[str] = frozenset()
    """Builds whose workers start when they are waited for."""
    leaves_in_pauses: frozenset[str] = frozenset()
    """Builds whose workers leave in every pause, and are back when they are waited for."""
    seen: list[Step] = field(default_factory=list)

    def run(self, plan: Plan, *, until: int | None = None) -> None:
        """Carry the first steps of a plan out; None = all."""
        for step in plan.steps[:until]:
            self.apply(step)

    def apply(self, step: Step) -> None:
        """Carry one step out, or fail when it is unsafe."""
        self.seen.append(step)
        match step:
            case AwaitPollers(build_id):
                self._start(build_id)
            case Pause():
                self._leave()
            case SetRamping(build_id, percentage):
                self._set_ramping(build_id, percentage)
            case ClearRamping(build_id):
                if self.observed.routing.ramping != build_id:
                    raise UnsafeStepError(f"{build_id} is not ramping")
                self._route(replace(self.observed.routing, ramping=None, percentage=0))
            case SetCurrent(build_id):
                self._check_polled(build_id)
                routing = self.observed.routing
                stays = routing.ramping if routing.ramping != build_id else None
                self._route(Routing(build_id, stays, routing.percentage if stays else 0))
            case DeleteBuild(build_id):
                self._delete(build_id)

    def _start(self, build_id: str) -> None:
        known = self.observed.builds.get(build_id)
        if known is not None and known.is_polled:
            return
        if build_id not in self.starts | self.leaves_in_pauses:
            raise TimeoutError(build_id)
        versioned = set(self.observed.builds) - {UNVERSIONED, build_id}
        is_new = known is None and build_id != UNVERSIONED
        if is_new and len(versioned) >= self.observed.version_cap:
            raise UnsafeStepError("the version cap is exceeded")
        self._put(build(build_id, known.status if known else BuildStatus.INACTIVE))

    def _leave(self) -> None:
        for build_id in self.leaves_in_pauses & set(self.observed.builds):
            self._put(build(build_id, self.observed.builds[build_id].status, pollers=0))

    def _put(self, changed: ObservedBuild) -> None:
        builds = {**self.observed.builds, changed.build_id: changed}
        self.observed = replace(self.observed, exists=True, builds=builds)

    def _check_polled(self, build_id: str) -> None:
        known = self.observed.builds.get(build_id)
        if known is None or not known.is_polled:
            raise UnsafeStepError(f"new work for {build_id}, which nobody polls")

    def _set_ramping(self, build_id: str, percentage: float) -> None:
        self._check_polled(build_id)
        now = self.observed.routing
        if not 0 <= percentage <= 100:
            raise UnsafeStepError(f"{percentage} is no percentage")
        if build_id == (now.current or UNVERSIONED):
            raise UnsafeStepError(f"{build_id} is current")
        back = build_id == now.ramping and percentage < now.percentage - 0.001
        if back and not self.allow_ramp_down:
            raise UnsafeStepError(f"ramp of {build_id} from {now.percentage} to {percentage}")
        # The server keeps percentages as 32-bit numbers.
        kept = struct.unpack("f", struct.pack("f", percentage))[0]
        self._route(Routing(now.current, build_id, kept))

    def _route(self, routing: Routing) -> None:
        builds = dict(self.observed.builds)
        for build_id, known in builds.items():
            builds[build_id] = replace(known, status=_status(known, routing))
        self.observed = replace(self.observed, routing=routing, builds=builds)

    def _delete(self, build_id: str) -> None:
        known = self.observed.builds[build_id]
        idle = known.status in (BuildStatus.DRAINED, BuildStatus.INACTIVE)
        if not idle or known.has_pollers or known.open_pinned.count:
            raise UnsafeStepError(f"{build_id} is still needed")
        builds = {key: each for key, each in self.observed.builds.items() if key != build_id}
        self.observed = replace(self.observed, builds=builds)


def _status(known: ObservedBuild, routing: Routing) -> BuildStatus:
    if known.build_id == routing.current:
        return BuildStatus.CURRENT
    if known.build_id == routing.ramping:
        return BuildStatus.RAMPING
    if known.status in (BuildStatus.CURRENT, BuildStatus.RAMPING):
        return BuildStatus.DRAINING
    return known.status
