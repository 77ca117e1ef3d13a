"""From the routing that Temporal has to the routing that is wanted, without losing work on the way.

A build gets new work only after it was seen polling; a ramp never goes back unless that was asked for. Nothing
is changed before all builds that get new work are polled: a change that cannot be finished takes no work away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from temporal_fleet.versioning.describing import build_name, name_task_queues, percent
from temporal_fleet.versioning.limits import check_cap, check_manager, note_cap
from temporal_fleet.versioning.model import (
    UNVERSIONED,
    AwaitPollers,
    ClearRamping,
    DesiredDeployment,
    ObservedDeployment,
    Pause,
    Plan,
    Refusal,
    Routing,
    SetCurrent,
    SetRamping,
    Step,
)
from temporal_fleet.versioning.routing_notes import note_routing
from temporal_fleet.versioning.task_queues import check_task_queues, missing_pollers
from temporal_fleet.versioning.validation import (
    check_routing,
    check_steps,
    is_same_share,
    note_unreachable,
    reachable_routing,
)


def plan_routing(
    desired: DesiredDeployment,
    observed: ObservedDeployment,
    *,
    ramp_steps: Sequence[float] = (),
    pause: timedelta = timedelta(0),
    allow_ramp_down: bool = False,
    identity: str | None = None,
) -> Plan | Refusal:
    """Plan how the server's routing becomes the desired one.

    Args:
        desired: What the values say.
        observed: The Worker Deployment as it is.
        ramp_steps: Percentages on the way, rising; 100 makes the build current. The last one must be
            what is desired. Steps that the server has already reached are left out. Empty = at once.
        pause: How long to stay on each step.
        allow_ramp_down: Whether the ramp may go back to a smaller percentage, in addition to
            ``desired.allow_ramp_down``.
        identity: Who carries the plan out, as the server knows managers of routing.

    Returns:
        A plan, without steps when the routing is as desired; or everything that speaks against one.
    """
    reachable = replace(desired, routing=reachable_routing(desired.routing))
    wrong = [*check_routing(desired), *check_steps(reachable, observed, ramp_steps, pause)]
    if not wrong:
        wrong = check_cap(observed, desired.builds.values())
        if not (allow_ramp_down or desired.allow_ramp_down):
            wrong += _check_ramp_down(desired.routing, observed.routing)
    if wrong:
        return Refusal(desired.deployment, tuple(wrong))
    path = _Path(observed, pause)
    path.lead_to(reachable.routing, ramp_steps)
    if wrong := check_task_queues(desired, observed, path.rising):
        return Refusal(desired.deployment, tuple(wrong))
    if path.steps and (managed := check_manager(observed, identity)):
        return Refusal(desired.deployment, tuple(managed))
    notes = [
        *note_unreachable(desired.routing),
        *path.notes,
        *note_routing(reachable, observed),
    ]
    return Plan(
        desired.deployment,
        tuple(path.steps),
        (*notes, *note_cap(observed, desired.builds.values())),
    )


def _check_ramp_down(wanted: Routing, now: Routing) -> list[str]:
    ramping = wanted.ramping
    if ramping is None:
        return []
    if ramping == now.ramping:
        share, how = now.percentage, f"is ramping at {percent(now.percentage)}"
    elif ramping == (now.current or UNVERSIONED):
        share, how = 100.0, "is current, with all new work"
    else:
        return []
    if wanted.percentage >= share or is_same_share(wanted.percentage, share):
        return []
    return [
        f"{build_name(ramping)} {how}, and {percent(wanted.percentage)} would take new work away "
        "from it. If the values are behind, bring them up to date; if it should go back, set "
        "rollout.allowRampDown: true or pass --allow-ramp-down; to end a ramp: fleet rollout "
        "rollback"
    ]


@dataclass
class _Path:
    """Steps, and the routing that the server has once they are done."""

    observed: ObservedDeployment
    pause: timedelta
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        routing = self.observed.routing
        self.now = replace(routing, current=routing.current or UNVERSIONED)

    def lead_to(self, wanted: Routing, ramp_steps: Sequence[float]) -> None:
        """Add the steps that end in the wanted routing."""
        if wanted.current is not None and wanted.current != self.now.current:
            self._make_current(wanted.current, self._useful(ramp_steps), wanted.ramping)
        if wanted.ramping is not None:
            self._ramp(wanted.ramping, (*ramp_steps[:-1], wanted.percentage))
        elif self.now.ramping is not None:
            self._clear_ramping(self.now.ramping)
        self._await_all_first()

    def _useful(self, ramp_steps: Sequence[float]) -> Sequence[float]:
        unversioned = self.observed.builds.get(UNVERSIONED)
        polled = unversioned is not None and unversioned.has_pollers
        if not ramp_steps or self.now.current != UNVERSIONED or polled:
            return ramp_steps
        self.notes.append(
            "the steps are left out: all new work would go to unversioned workers otherwise, and "
            "no worker polls without a build ID"
        )
        return ()

    def _make_current(self, build_id: str, ramp_steps: Sequence[float], stays: str | None) -> None:
        began = bool(ramp_steps[:-1]) and self._share(build_id) > 0
        for share in self._shares_ahead(build_id, ramp_steps[:-1]):
            self._pause(build_id, began=began)
            self._set_ramping(build_id, share)
            began = True
        self._pause(build_id, began=began)
        if self.now.ramping not in (None, build_id, stays):
            self._clear_ramping(self.now.ramping)
        self.steps.append(SetCurrent(build_id, f"it replaces {build_name(self.now.current or '')}"))
        ramping = None if self.now.ramping == build_id else self.now.ramping
        self.now = Routing(build_id, ramping, self.now.percentage if ramping else 0)

    def _ramp(self, build_id: str, shares: Sequence[float]) -> None:
        *partial, share = shares
        ramps = self.now.ramping == build_id
        if ramps and is_same_share(self.now.percentage, share):
            return
        if ramps and share < self.now.percentage:
            # A share is taken away at once, whether or not anybody is there to work.
            self._set_ramping(build_id, share)
            return
        began = bool(partial) and self._share(build_id) > 0
        for each in (*self._shares_ahead(build_id, partial), share):
            self._pause(build_id, began=began)
            self._set_ramping(build_id, each)
            began = True

    def _share(self, build_id: str) -> float:
        return self.now.percentage if self.now.ramping == build_id else 0

    def _shares_ahead(self, build_id: str, shares: Sequence[float]) -> list[float]:
        reached = self._share(build_id)
        return [each for each in shares if each > reached and not is_same_share(each, reached)]

    def _pause(self, build_id: str, *, began: bool) -> None:
        """Add the time between two steps of a ramp, after which a build's workers are looked at again."""
        if began and self.pause:
            share = percent(self.now.percentage)
            self.steps.append(Pause(self.pause, f"time for failures to show at {share}"))
            self.steps.append(AwaitPollers(build_id, "its workers may have gone meanwhile"))

    def _await_all_first(self) -> None:
        """Put the waits for all builds that get new work before the first change.

        A wait between two changes that fails would leave the routing halfway.
        """
        reasons = ((build_id, self._not_polled(build_id)) for build_id in self.rising)
        self.steps[:0] = [AwaitPollers(build_id, reason) for build_id, reason in reasons if reason]

    @property
    def rising(self) -> Sequence[str]:
        """The builds that get more new work than now, each once."""
        found = (
            each.build_id
            for each in self.steps
            if isinstance(each, SetCurrent) or (isinstance(each, SetRamping) and each.raises)
        )
        return list(dict.fromkeys(found))

    def _not_polled(self, build_id: str) -> str | None:
        build = self.observed.builds.get(build_id)
        if build_id == UNVERSIONED and (build is None or not build.has_pollers):
            return "no worker polls without a build ID now"
        if build is None or not build.task_queues:
            return "the server has not seen any worker of it yet"
        if missing := missing_pollers(self.observed, build):
            return f"no worker polls task queue {name_task_queues(missing)} for it now"
        return None

    def _set_ramping(self, build_id: str, share: float) -> None:
        replaced, lost = self.now.ramping, self.now.percentage
        if replaced not in (None, build_id) and lost:
            self.notes.append(
                f"{build_name(replaced)} loses its {percent(lost)} of new work: the server lets one "
                f"build ramp at a time, and {build_name(build_id)} takes its place at {percent(share)}"
            )
        now = self._share(build_id)
        reason = f"it has {percent(now)} now" if now else "it gets no new work yet"
        raises = replaced != build_id or share > lost
        self.steps.append(SetRamping(build_id, share, reason, raises))
        self.now = replace(self.now, ramping=build_id, percentage=share)

    def _clear_ramping(self, build_id: str) -> None:
        reason = (
            f"it should not be ramping, and gets {percent(self.now.percentage)} of new work now"
        )
        self.steps.append(ClearRamping(build_id, reason))
        self.now = replace(self.now, ramping=None, percentage=0)
