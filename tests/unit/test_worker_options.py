"""What settings mean for the SDK's worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.common import VersioningBehavior
from temporalio.worker import PollerBehaviorAutoscaling, PollerBehaviorSimpleMaximum

from temporal_fleet.settings import (
    ConcurrencySettings,
    DeploymentSettings,
    DrainSettings,
    Settings,
)
from temporal_fleet.worker.options import NAMING_LEAD, worker_options


def options(**groups: Any) -> dict[str, Any]:
    """Return the options for these settings."""
    return worker_options(Settings(**groups), deployment_name="shop")


def test_fixed_slots_are_those_of_the_settings() -> None:
    """Each kind of slot has its own setting."""
    found = options(
        concurrency=ConcurrencySettings(
            workflow_tasks=11, activities=12, local_activities=13, nexus_tasks=14
        )
    )

    assert found["max_concurrent_workflow_tasks"] == 11
    assert found["max_concurrent_activities"] == 12
    assert found["max_concurrent_local_activities"] == 13
    assert found["max_concurrent_nexus_tasks"] == 14
    assert "tuner" not in found


@pytest.mark.parametrize("tuner", ["fixed", "resource"])
def test_worker_that_only_computes_has_a_slot_for_each_process(tuner: Any) -> None:
    """What no process can begin is not accepted, whichever way slots are given out."""
    settings = Settings(concurrency=ConcurrencySettings(processes=3, tuner=tuner))
    found = worker_options(settings, deployment_name="shop", only_cpu_bound=True)

    if tuner == "fixed":
        assert found["max_concurrent_activities"] == 3
        assert found["max_concurrent_local_activities"] == 100
    else:
        supplier = found["tuner"]._get_activity_task_slot_supplier()
        assert supplier.slot_config.maximum_slots == 3


def test_resource_tuner_takes_the_place_of_fixed_slots() -> None:
    """The SDK refuses a tuner beside fixed numbers, so there is one or the other."""
    found = options(concurrency=ConcurrencySettings(tuner="resource"))

    assert found["tuner"] is not None
    assert not [name for name in found if name.startswith("max_concurrent")]


@pytest.mark.parametrize(
    ("minimum", "maximum", "initial", "expected"),
    [
        (1, 100, 5, PollerBehaviorAutoscaling(minimum=2, maximum=100, initial=5)),
        (1, 1, 1, PollerBehaviorAutoscaling(minimum=2, maximum=2, initial=2)),
        (3, 9, 4, PollerBehaviorAutoscaling(minimum=3, maximum=9, initial=4)),
    ],
)
def test_workflow_pollers_are_never_fewer_than_two(
    minimum: int, maximum: int, initial: int, expected: PollerBehaviorAutoscaling
) -> None:
    """With a sticky cache one poll is for new workflows and one for those that are cached."""
    concurrency = ConcurrencySettings(
        pollers_minimum=minimum, pollers_maximum=maximum, pollers_initial=initial
    )
    found = options(concurrency=concurrency)

    assert found["workflow_task_poller_behavior"] == expected
    assert found["activity_task_poller_behavior"].minimum == minimum


def test_fixed_pollers_are_those_of_the_settings() -> None:
    """Each kind of poll has its own setting."""
    found = options(
        concurrency=ConcurrencySettings(pollers="fixed", pollers_workflow=3, pollers_activity=4)
    )

    assert found["workflow_task_poller_behavior"] == PollerBehaviorSimpleMaximum(3)
    assert found["activity_task_poller_behavior"] == PollerBehaviorSimpleMaximum(4)


def test_versioning_on_routes_by_deployment_and_build_id() -> None:
    """With a build ID the worker takes part in routing, with the behaviour of the settings."""
    deployment = DeploymentSettings(build_id="v7", default_versioning_behavior="pinned")
    config = options(deployment=deployment)["deployment_config"]

    assert config.use_worker_versioning
    assert (config.version.deployment_name, config.version.build_id) == ("shop", "v7")
    assert config.default_versioning_behavior is VersioningBehavior.PINNED


@pytest.mark.parametrize(("build_id", "shown"), [("v7", "v7"), (None, "__unversioned__")])
def test_versioning_off_only_shows_the_build_id(build_id: str | None, shown: str) -> None:
    """Without versioning the build ID is told to the server, but nothing is routed by it."""
    deployment = DeploymentSettings(build_id=build_id, versioning=False)
    config = options(deployment=deployment)["deployment_config"]

    assert not config.use_worker_versioning
    assert config.version.build_id == shown


def test_grace_period_is_the_drain_timeout_and_time_to_name_what_is_cancelled() -> None:
    """The SDK cancels right after the log has said what is cancelled."""
    found = options(drain=DrainSettings(timeout=timedelta(seconds=7)))

    assert found["graceful_shutdown_timeout"] == timedelta(seconds=7) + NAMING_LEAD
