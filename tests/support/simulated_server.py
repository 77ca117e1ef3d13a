"""A tiny model of how the server keeps a Worker Deployment, on which plans are tried out.

It checks what the server would not forgive or what would lose work: every routing to a build that nobody
polls, every ramp that goes back, every deletion of what is still needed is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
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
    created: int | None = None,
    drained: int | None = None,
    task_queues: tuple[str, ...] = ("orders",),
    unpolled: str | None = None,
) -> ObservedBuild:
    """Return a build as the server describes it.

    *last_current*, *created* and *drained* count minutes; *unpolled* is a type of tasks without pollers.
    """
    return ObservedBuild(
        build_id=build_id,
        status=status,
        task_queues=tuple(
            PolledTaskQueue(name, kind, 0 if kind == unpolled else pollers)
            for name in task_queues
            for kind in ("workflow", "activity")
        ),
        open_pinned=open_runs(pinned),
        open_runs=open_runs(max(pinned, runs)),
        created=_minute(created),
        last_current=_minute(last_current),
        drainage_changed=_minute(drained),
    )


def _minute(number: int | None) -> datetime | None:
    return None if number is None else START + timedelta(minutes=number)


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
    current_before: str = UNVERSIONED
    """The build that was current before the plan, from which unversioned workers would take over."""

    def run(self, plan: Plan, *, until: int | None = None) -> None:
        """Carry the first steps of a plan out; None = all."""
        self.current_before = self.observed.routing.current or UNVERSIONED
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
            case SetRamping():
                self._set_ramping(step)
            case ClearRamping(build_id):
                if self.observed.routing.ramping != build_id:
                    raise UnsafeStepError(f"{build_id} is not ramping")
                self._route(replace(self.observed.routing, ramping=None, percentage=0))
            case SetCurrent(build_id):
                self._check_polled(build_id)
                routing = self.observed.routing
                stays = routing.ramping if routing.ramping != build_id else None
                self._route(Routing(build_id, stays, routing.percentage if stays else 0))
                self._remember_current(build_id)
            case DeleteBuild(build_id):
                self._delete(build_id)

    def _start(self, build_id: str) -> None:
        known = self.observed.builds.get(build_id)
        if self._is_polled(build_id):
            return
        if build_id not in self.starts | self.leaves_in_pauses:
            raise TimeoutError(build_id)
        if known is None and build_id != UNVERSIONED:
            self._make_room()
        self._put(build(build_id, known.status if known else BuildStatus.INACTIVE))

    def _make_room(self) -> None:
        """Delete the oldest build that is done when there are as many as may be, as the server does."""
        versioned = [each for key, each in self.observed.builds.items() if key != UNVERSIONED]
        if len(versioned) < self.observed.version_cap:
            return
        done = [each for each in versioned if _is_done(each)]
        if not done:
            raise UnsafeStepError("the version cap is exceeded")
        oldest = min(done, key=lambda each: (each.created or START, each.build_id))
        self._remove(oldest.build_id)

    def _leave(self) -> None:
        for build_id in self.leaves_in_pauses & set(self.observed.builds):
            self._put(build(build_id, self.observed.builds[build_id].status, pollers=0))

    def _put(self, changed: ObservedBuild) -> None:
        builds = {**self.observed.builds, changed.build_id: changed}
        self.observed = replace(self.observed, exists=True, builds=builds)

    def _check_polled(self, build_id: str) -> None:
        if not self._is_polled(build_id):
            raise UnsafeStepError(f"new work for {build_id}, which no worker polls")

    def _is_polled(self, build_id: str) -> bool:
        """Return whether new work is safe; who is not versioned must poll what was the current build's."""
        polled = self._task_queues(build_id, lambda each: each.pollers > 0)
        if build_id != UNVERSIONED:
            return bool(polled) and polled == self._task_queues(build_id, lambda _: True)
        before = self.current_before
        expected = set() if before == UNVERSIONED else self._task_queues(before, lambda _: True)
        return bool(polled) and polled >= expected

    def _task_queues(
        self, build_id: str, counts: Callable[[PolledTaskQueue], bool]
    ) -> set[tuple[str, str]]:
        known = self.observed.builds.get(build_id)
        return (
            {(each.name, each.type) for each in known.task_queues if counts(each)}
            if known
            else set()
        )

    def _set_ramping(self, step: SetRamping) -> None:
        build_id, percentage = step.build_id, step.percentage
        now = self.observed.routing
        lowers = build_id == now.ramping and percentage < now.percentage
        if step.raises is lowers:
            raise UnsafeStepError(
                f"{step} says that it {'raises' if lowers else 'lowers'} the share"
            )
        if not lowers:
            self._check_polled(build_id)
        if not 0 <= percentage <= 100:
            raise UnsafeStepError(f"{percentage} is no percentage")
        if build_id == (now.current or UNVERSIONED):
            raise UnsafeStepError(f"{build_id} is current")
        back = build_id == now.ramping and percentage < now.percentage - 0.001
        if back and not self.allow_ramp_down:
            raise UnsafeStepError(f"ramp of {build_id} from {now.percentage} to {percentage}")
        # The server keeps percentages as 32-bit numbers.
        kept = struct.unpack("f", struct.pack("f", percentage))[0]
        # Unversioned workers have an empty build ID, so that their share of 0 means no ramp.
        is_lost = build_id == UNVERSIONED and not kept
        self._route(Routing(now.current) if is_lost else Routing(now.current, build_id, kept))

    def _route(self, routing: Routing) -> None:
        builds = dict(self.observed.builds)
        for build_id, known in builds.items():
            builds[build_id] = replace(known, status=_status(known, routing))
        self.observed = replace(self.observed, routing=routing, builds=builds)

    def _remember_current(self, build_id: str) -> None:
        known = self.observed.builds[build_id]
        if build_id != UNVERSIONED:
            times = [each.last_current or START for each in self.observed.builds.values()]
            self._put(replace(known, last_current=max(times) + timedelta(minutes=1)))

    def _delete(self, build_id: str) -> None:
        known = self.observed.builds[build_id]
        if not _is_done(known) or known.open_pinned.count:
            raise UnsafeStepError(f"{build_id} is still needed")
        self._remove(build_id)

    def _remove(self, build_id: str) -> None:
        builds = {key: each for key, each in self.observed.builds.items() if key != build_id}
        self.observed = replace(self.observed, builds=builds)


def _is_done(known: ObservedBuild) -> bool:
    idle = known.status in (BuildStatus.DRAINED, BuildStatus.INACTIVE)
    return idle and not any(each.pollers for each in known.task_queues)


def _status(known: ObservedBuild, routing: Routing) -> BuildStatus:
    if known.build_id == routing.current:
        return BuildStatus.CURRENT
    if known.build_id == routing.ramping:
        return BuildStatus.RAMPING
    if known.status in (BuildStatus.CURRENT, BuildStatus.RAMPING):
        return BuildStatus.DRAINING
    return known.status
