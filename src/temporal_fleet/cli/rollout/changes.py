"""``fleet rollout plan``, ``apply``, ``ramp``, ``promote``, ``rollback`` and ``retire``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from temporal_fleet.cli.command import Command, output_option
from temporal_fleet.cli.duration import DURATION
from temporal_fleet.cli.rollout.options import (
    change_options,
    confirm,
    read_routing_file,
    require_person,
    risk_options,
    routing_option,
    task_queue_option,
    with_server,
)
from temporal_fleet.cli.rollout.plans import plan_as_json, print_plan, teller

if TYPE_CHECKING:
    from temporal_fleet.rollout import Server
    from temporal_fleet.rollout.changes import Change
    from temporal_fleet.versioning import DesiredDeployment, ObservedDeployment, Plan, Refusal, Risk

_HELD_BY_PEOPLE = "mode is manual, so nothing is changed: people do it with fleet rollout"


@dataclass(frozen=True)
class _Wanted:
    """What a routing file asks for, by key of the task queue."""

    desired: Mapping[str, DesiredDeployment]
    changes: Sequence[Change]


def _routing_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add what says which routing is wanted, and on which way, as ``wanted``."""

    @routing_option(required=True)
    @click.option(
        "--queue",
        "queues",
        metavar="KEY",
        multiple=True,
        help="Only the task queue with this key; may be given several times.",
    )
    @click.option(
        "--steps",
        metavar="PERCENTAGES",
        callback=lambda _context, _parameter, value: _steps(value),
        help="Shares of new work on the way, such as 10,50,100; 100 makes the build current.",
    )
    @click.option(
        "--pause",
        type=DURATION,
        default=timedelta(0),
        show_default="0s",
        help="How long to stay on each step.",
    )
    @click.option("--allow-ramp-down", is_flag=True, help="Let a ramp go back to a smaller share.")
    @task_queue_option
    @risk_options
    @functools.wraps(function)
    def gather(
        *,
        routing: str,
        queues: tuple[str, ...],
        steps: tuple[float, ...],
        pause: timedelta,
        allow_ramp_down: bool,
        task_queues: tuple[str, ...],
        accepted: frozenset[Risk],
        **others: object,
    ) -> int:
        desired = _desired(routing, queues, accepted)
        changes = _changes(desired, steps, pause, task_queues, allow_ramp_down=allow_ramp_down)
        return function(wanted=_Wanted(desired, changes), **others)

    return gather


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout plan --routing routing.json", "what apply would do"),
        (
            "kubectl get configmap fleet-routing -o json | fleet rollout plan --routing -",
            "for an installed release",
        ),
    ],
)
@_routing_options
@output_option
def plan(*, wanted: _Wanted, output: str) -> int:
    """Show what apply would do, and change nothing.

    The exit code is 1 when something would be refused.
    """
    from temporal_fleet.output import print_json
    from temporal_fleet.rollout.changes import make_plans

    async def use(server: Server) -> int:
        plans = await make_plans(server, wanted.changes)
        if output == "json":
            print_json([plan_as_json(each) for each in plans])
        else:
            for each in plans:
                print_plan(each)
        return int(any(each.is_refused for each in plans))

    return with_server(use)


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout apply --routing routing.json", "make Temporal's routing equal to the file"),
        (
            "fleet rollout apply --routing routing.json --steps 10,50,100 --pause 5m",
            "in steps, with time for failures to show",
        ),
    ],
)
@_routing_options
@click.option(
    "--hook",
    is_flag=True,
    help="For a release: where the mode is manual, only wait for pollers and show the plan.",
)
@change_options
def apply(*, wanted: _Wanted, hook: bool, yes: bool, poller_timeout: timedelta) -> int:
    """Make Temporal's routing equal to a file, once every build is polled that gets work.

    All task queues are planned first; when one is refused, nothing is changed. A rollout that was
    interrupted continues where it stopped when it is started again.
    """
    from temporal_fleet.versioning import RolloutMode

    require_person(yes=yes)
    desired = wanted.desired
    manual = {key for key, each in desired.items() if hook and each.mode is RolloutMode.MANUAL}
    ours = [change for change in wanted.changes if change.key not in manual]
    checked = [(desired[each.key], each) for each in wanted.changes if each.key in manual]

    async def use(server: Server) -> int:
        code = await _change(server, ours, yes=yes, poller_timeout=poller_timeout) if ours else 0
        return await _check_manual(server, checked, poller_timeout) or code

    return with_server(use, patience=poller_timeout)


@click.command(cls=Command, examples=[("fleet rollout ramp orders 1.5.0 --percentage 10", "")])
@click.argument("deployment")
@click.argument("build_id", metavar="BUILD_ID")
@click.option(
    "--percentage", type=click.FloatRange(0, 100), required=True, help="Share of new work."
)
@click.option("--allow-ramp-down", is_flag=True, help="Let it become smaller.")
@risk_options
@change_options
def ramp(
    *,
    deployment: str,
    build_id: str,
    percentage: float,
    allow_ramp_down: bool,
    accepted: frozenset[Risk],
    yes: bool,
    poller_timeout: timedelta,
) -> int:
    """Send a share of new work to a build."""
    from temporal_fleet.versioning import plan_ramp

    def planner(observed: ObservedDeployment, identity: str) -> Plan | Refusal:
        return plan_ramp(
            observed,
            build_id,
            percentage,
            allow_ramp_down=allow_ramp_down,
            accepted=accepted,
            identity=identity,
        )

    return _change_one(deployment, planner, yes=yes, poller_timeout=poller_timeout)


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout promote orders", "the build that is ramping"),
        ("fleet rollout promote orders 1.5.0", "this build, without a ramp"),
    ],
)
@click.argument("deployment")
@click.argument("build_id", metavar="[BUILD_ID]", required=False)
@risk_options
@change_options
def promote(
    *,
    deployment: str,
    build_id: str | None,
    accepted: frozenset[Risk],
    yes: bool,
    poller_timeout: timedelta,
) -> int:
    """Make a build current: it gets all new work."""
    from temporal_fleet.versioning import plan_promote

    def planner(observed: ObservedDeployment, identity: str) -> Plan | Refusal:
        return plan_promote(observed, build_id, accepted=accepted, identity=identity)

    return _change_one(deployment, planner, yes=yes, poller_timeout=poller_timeout)


@click.command(
    cls=Command,
    examples=[
        ("fleet rollout rollback orders", "end the ramp, or go back to the build before"),
        ("fleet rollout rollback orders --to 1.4.0", "to this build"),
    ],
)
@click.argument("deployment")
@click.option("--to", "to", metavar="BUILD_ID", help="The build to go back to.")
@risk_options
@change_options
def rollback(
    *,
    deployment: str,
    to: str | None,
    accepted: frozenset[Risk],
    yes: bool,
    poller_timeout: timedelta,
) -> int:
    """End the ramp; without one, go back to the build that was current before.

    It goes to an older build only, so that a second rollback does not undo the first. Runs that are
    pinned to the bad build stay there: `fleet rollout recover` moves them.
    """
    from temporal_fleet.versioning import plan_rollback

    def planner(observed: ObservedDeployment, identity: str) -> Plan | Refusal:
        return plan_rollback(observed, to, accepted=accepted, identity=identity)

    return _change_one(deployment, planner, yes=yes, poller_timeout=poller_timeout)


@click.command(cls=Command, examples=[("fleet rollout retire orders 1.4.0", "")])
@click.argument("deployment")
@click.argument("build_id", metavar="BUILD_ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(deployment: str, build_id: str, yes: bool) -> int:
    """Delete the server's record of a build that is drained and that no worker polls.

    It makes room below the server's limit of builds. What is in the way is explained.
    """
    from temporal_fleet.versioning import plan_retire

    def planner(observed: ObservedDeployment, _identity: str) -> Plan | Refusal:
        return plan_retire(observed, build_id)

    return _change_one(deployment, planner, yes=yes, poller_timeout=timedelta(0))


def _desired(
    routing: str, queues: Sequence[str], accepted: frozenset[Risk]
) -> Mapping[str, DesiredDeployment]:
    found = read_routing_file(routing)
    if unknown := sorted(set(queues) - set(found)):
        raise click.UsageError(
            f"--queue {', '.join(unknown)}: no such key in {routing}; it has {', '.join(found)}"
        )
    return {
        key: replace(each, accepted=each.accepted | accepted)
        for key, each in found.items()
        if not queues or key in queues
    }


def _steps(value: str | None) -> tuple[float, ...]:
    if not value:
        return ()
    try:
        return tuple(float(each) for each in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: write percentages, as 10,50,100") from None


def _changes(
    desired: Mapping[str, DesiredDeployment],
    steps: Sequence[float],
    pause: timedelta,
    task_queues: Sequence[str],
    *,
    allow_ramp_down: bool,
) -> list[Change]:
    from temporal_fleet.rollout.changes import Change, unversioned_task_queues
    from temporal_fleet.versioning import plan_routing

    def planner(
        wanted: DesiredDeployment, observed: ObservedDeployment, identity: str
    ) -> Plan | Refusal:
        return plan_routing(
            wanted,
            observed,
            ramp_steps=steps,
            pause=pause,
            allow_ramp_down=allow_ramp_down,
            identity=identity,
        )

    return [
        Change(
            key,
            each.deployment,
            functools.partial(planner, each),
            unversioned_task_queues(each, task_queues),
        )
        for key, each in desired.items()
    ]


def _change_one(
    deployment: str,
    planner: Callable[[ObservedDeployment, str], Plan | Refusal],
    *,
    yes: bool,
    poller_timeout: timedelta,
) -> int:
    from temporal_fleet.rollout.changes import Change

    require_person(yes=yes)
    change = Change(deployment, deployment, planner)
    return with_server(
        functools.partial(_change, changes=[change], yes=yes, poller_timeout=poller_timeout)
    )


async def _change(
    server: Server, changes: Sequence[Change], *, yes: bool, poller_timeout: timedelta
) -> int:
    """Show all plans, ask, and carry them out; nothing is done when one of them is refused."""
    from temporal_fleet.rollout.changes import carry_out, make_plans

    plans = await make_plans(server, changes)
    for each in plans:
        print_plan(each)
    if any(each.is_refused for each in plans):
        click.echo("nothing was changed", err=True)
        return 1
    if all(each.is_done for each in plans):
        return 0
    if not confirm("Continue?", yes=yes):
        click.echo("nothing was changed", err=True)
        return 1
    return await carry_out(server, plans, poller_timeout=poller_timeout, teller=teller)


async def _check_manual(
    server: Server, checked: Sequence[tuple[DesiredDeployment, Change]], timeout: timedelta
) -> int:
    """Wait until every build is polled and show the plan, which people may carry out."""
    import asyncio

    from temporal_fleet.rollout.changes import make_plans

    codes = await asyncio.gather(
        *(
            _check_polled(server, change, build_id, timeout)
            for desired, change in checked
            for build_id in desired.builds.values()
        )
    )
    for planned in await make_plans(server, [change for _, change in checked]):
        print_plan(planned)
        click.echo(f"  {_HELD_BY_PEOPLE}")
    return max(codes, default=0)


async def _check_polled(server: Server, change: Change, build_id: str, timeout: timedelta) -> int:
    from temporal_fleet.rollout import PollersCheck, wait_until

    say = teller(change.deployment)
    check = PollersCheck(server, change.deployment, build_id, task_queues=change.task_queues)
    missing = await wait_until(check, timeout=timeout, name="poller timeout", progress=say)
    if missing:
        say(f"FAILED: {'; '.join(missing)}. {check.cure()}", err=True)
        return 1
    say(f"build ID '{build_id}' is polled")
    return 0
