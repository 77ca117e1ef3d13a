from __future__ import annotations

from dataclasses import replace

from routing_situations import BLUE, CURRENT, GREEN, RAMPING, steps_of, values
from simulated_server import build, deployment

from temporal_fleet.versioning import (
    ObservedDeployment,
    Plan,
    Refusal,
    Risk,
    Routing,
    plan_promote,
    plan_ramp,
    plan_rollback,
    plan_routing,
)

WITHOUT_MAIL = deployment(
    build(BLUE, CURRENT, task_queues=("orders", "mail"), last_current=1, created=2),
    build(GREEN, created=1, last_current=0),
    current=BLUE,
)
SHARED = replace(
    deployment(build(BLUE, CURRENT), build(GREEN, created=1, last_current=0), current=BLUE),
    sharing={"shop": ("orders",)},
)


def reasons_of(plan: Plan | Refusal) -> str:
    """Return why nothing is done."""
    assert isinstance(plan, Refusal), plan
    return "\n".join(plan.reasons)


def test_every_change_to_a_build_without_a_task_queue_of_the_current_one_is_refused() -> None:
    """Values, ramp, promotion and rollback: new work at that task queue would wait forever."""
    accepted = frozenset({Risk.MISSING_TASK_QUEUES})
    for plan, allowed in (
        (
            plan_routing(values(GREEN), WITHOUT_MAIL),
            plan_routing(replace(values(GREEN), accepted=accepted), WITHOUT_MAIL),
        ),
        (
            plan_ramp(WITHOUT_MAIL, GREEN, 10),
            plan_ramp(WITHOUT_MAIL, GREEN, 10, accepted=accepted),
        ),
        (plan_promote(WITHOUT_MAIL, GREEN), plan_promote(WITHOUT_MAIL, GREEN, accepted=accepted)),
        (plan_rollback(WITHOUT_MAIL, GREEN), plan_rollback(WITHOUT_MAIL, GREEN, accepted=accepted)),
    ):
        assert "has no worker for task queue 'mail' (workflow, activity)" in reasons_of(plan)
        assert "--allow-missing-task-queues" in reasons_of(plan)
        assert steps_of(allowed)


def test_a_share_that_shrinks_or_ends_is_never_refused_for_a_task_queue() -> None:
    """Taking new work away from a build is the way out."""
    ramped = replace(
        WITHOUT_MAIL,
        builds={**WITHOUT_MAIL.builds, GREEN: build(GREEN, RAMPING)},
        routing=Routing(BLUE, GREEN, 20),
        sharing={"shop": ("orders",)},
    )

    assert steps_of(plan_rollback(ramped))
    assert steps_of(plan_ramp(ramped, GREEN, 5, allow_ramp_down=True))


def test_a_change_beside_another_worker_deployment_that_routes_is_refused_but_for_a_rollback() -> (
    None
):
    """New runs would be taken from it; on the way back from a bad build that is no obstacle."""
    accepted = frozenset({Risk.SHARED_TASK_QUEUES})

    for plan in (plan_promote(SHARED, GREEN), plan_ramp(SHARED, GREEN, 5)):
        assert "Worker Deployment 'shop' routes new work, too" in reasons_of(plan)
    assert steps_of(plan_promote(SHARED, GREEN, accepted=accepted))
    assert steps_of(plan_rollback(SHARED, GREEN))
    assert done(SHARED)


def done(observed: ObservedDeployment) -> bool:
    """Return whether a routing that holds already is left alone."""
    plan = plan_routing(values(BLUE), observed)
    return isinstance(plan, Plan) and not plan.steps
