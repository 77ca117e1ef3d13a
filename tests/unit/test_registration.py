"""The checks of a workload before it polls, what it registers, and its description."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from temporal_fleet.errors import WorkloadError
from temporal_fleet.registration import (
    check_workload,
    cpu_bound_modules,
    describe,
)
from temporal_fleet.registration.building import build_activities, build_nexus_handlers
from temporal_fleet.settings import DeploymentSettings, Settings, WorkerSettings
from temporal_fleet.workload import WorkflowStart, Workload

if TYPE_CHECKING:
    from types import ModuleType

    from tests.unit.conftest import Site

ACTIVITIES = """
    from temporalio import activity

    @activity.defn
    async def weigh(parcel: str) -> int:
        return len(parcel)

    @activity.defn
    def pack(parcel: str) -> str:
        return f"[{parcel}]"

    async def squash(data: bytes) -> bytes:
        return data
    squash.__temporal_fleet_cpu_bound__ = True
    squash = activity.defn(squash)

    @activity.defn(name="weigh")
    async def weigh_again(parcel: str) -> int:
        return 0

    def undecorated() -> None: ...

    class Depot:
        @activity.defn
        async def open_gate(self) -> str:
            return "open"

    class Stock(Depot):
        built = 0

        def __init__(self, resources: object) -> None:
            self.resources = resources
            type(self).built += 1

        @activity.defn
        async def reserve(self, parcel: str) -> object:
            return self.resources

        @activity.defn(name="release-stock")
        def release(self, parcel: str) -> None: ...

        def not_an_activity(self) -> None: ...

    class Plain:
        @activity.defn
        async def stamp(self) -> str:
            return "stamped"

    class Empty:
        def nothing(self) -> None: ...

    class Greedy:
        def __init__(self, database: object, *, gateway: object) -> None: ...

        @activity.defn
        async def gorge(self) -> None: ...
"""

WORKFLOWS = """
    from collections.abc import Sequence

    from temporalio import workflow
    from temporalio.common import RawValue, VersioningBehavior

    @workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
    class Delivery:
        @workflow.run
        async def run(self) -> None: ...

        @workflow.signal
        def cancel(self) -> None: ...

        @workflow.query(name="state")
        def current(self) -> str:
            return "new"

        @workflow.update
        async def redirect(self, address: str) -> None: ...

        @workflow.signal(dynamic=True)
        async def other(self, name: str, args: Sequence[RawValue]) -> None: ...

    @workflow.defn(name="pick-up", sandboxed=False)
    class PickUp:
        @workflow.run
        async def run(self) -> None: ...

    class Undecorated: ...

    class Child(Delivery): ...

    @workflow.defn(name="Delivery")
    class DeliveryAgain:
        @workflow.run
        async def run(self) -> None: ...
"""


@pytest.fixture
def activities(site: Site) -> ModuleType:
    """A module with activities of every kind."""
    return site.module("acme_parcels.activities", ACTIVITIES)


@pytest.fixture
def workflows(site: Site) -> ModuleType:
    """A module with workflows of every kind."""
    return site.module("acme_parcels.workflows", WORKFLOWS)


def parcels(**declared: Any) -> Workload[Any, Any]:
    """A workload that declares this."""
    return Workload(name="parcels", **declared)


def problems(workload: Workload[Any, Any], settings: Settings | None = None) -> list[str]:
    """All problems of a workload, as text."""
    return [str(problem) for problem in check_workload(workload, settings or Settings())]


async def resources(_context: object) -> Any:
    """Stands where a workload declares resources; never called by checks."""


def test_check_nothing_registered_names_task_queue() -> None:
    """A workload without anything to run is refused, with the task queue it would have polled."""
    (default,) = problems(parcels())
    (declared,) = problems(parcels(task_queue="eu"))
    settings = Settings(worker=WorkerSettings(task_queue="vip"))
    (overridden,) = problems(parcels(task_queue="eu"), settings)

    assert "workload 'parcels': registers nothing" in default
    assert "task queue 'parcels'" in default
    assert "task queue 'eu'" in declared
    assert "task queue 'vip'" in overridden


def test_check_sound_workload_finds_nothing(activities: ModuleType, workflows: ModuleType) -> None:
    """A workload with activities and workflows of every kind, rightly declared, has no problem."""
    workload = parcels(
        workflows=[workflows.Delivery, workflows.PickUp],
        activities=[activities.weigh, activities.pack, activities.Stock, activities.Plain],
        resources=resources,
    )

    assert problems(workload) == []


@pytest.mark.parametrize("name", ["Parcels", "par_cels", "-parcels", "p" * 64, ""])
def test_check_name_not_dns_label_is_reported(activities: ModuleType, name: str) -> None:
    """A workload name that cannot name Kubernetes objects is reported."""
    (text,) = problems(Workload(name=name, activities=[activities.weigh]))

    assert text.startswith(f"workload {name!r}: its name is not a DNS label")


@pytest.mark.parametrize("task_queue", ["parcels\n", " parcels", "par\u200bcels", " "])
def test_check_task_queue_that_no_starter_would_write_is_reported(
    activities: ModuleType, task_queue: str
) -> None:
    """A task queue declared in code is held to the rule for one in settings: no stray white space."""
    workload = Workload[Any, Any](
        name="parcels", task_queue=task_queue, activities=[activities.weigh]
    )
    (text,) = problems(workload)

    assert f"its task queue {task_queue!r} holds a line break or white space" in text
    assert text.endswith("Use 'parcels'." if task_queue.strip() else "Give it a name.")


def test_check_missing_decorators_are_all_reported(
    activities: ModuleType, workflows: ModuleType
) -> None:
    """Everything listed without its decorator is reported at once, with where it is defined."""
    workload = parcels(
        workflows=[workflows.Undecorated, workflows.Child, workflows],
        activities=[activities.undecorated, activities.Empty],
    )

    found = problems(workload)

    assert len(found) == 5
    assert found[0].startswith(
        "workflow acme_parcels.workflows:Undecorated: is listed in workload 'parcels', "
        "but has no @workflow.defn"
    )
    assert "workflow acme_parcels.workflows:Child" in found[1]
    assert "is not a class" in found[2]
    assert (
        "acme_parcels.activities:undecorated: is listed in workload 'parcels', but has no"
        in (found[3])
    )
    assert "acme_parcels.activities:Empty: has no @activity.defn method" in found[4]


def test_check_unbound_method_asks_for_its_class(activities: ModuleType) -> None:
    """A method that is listed instead of its class is reported, with the class to list."""
    (text,) = problems(parcels(activities=[activities.Stock.reserve], resources=resources))

    assert "acme_parcels.activities:Stock.reserve: is a method without an object" in text
    assert "List the class Stock" in text


def test_check_class_that_cannot_be_built_says_why(activities: ModuleType) -> None:
    """A class whose constructor wants what it cannot get is reported before polling."""
    (without,) = problems(parcels(activities=[activities.Stock]))
    (greedy,) = problems(parcels(activities=[activities.Greedy], resources=resources))

    assert "needs resources, but the workload declares no resources" in without
    assert "needs database, gateway, but only the resources are given to it" in greedy


def test_check_duplicate_names_tells_both_places(
    activities: ModuleType, workflows: ModuleType
) -> None:
    """Two workflows or activities of one name are reported with the places of both."""
    found = problems(
        parcels(
            workflows=[workflows.Delivery, workflows.DeliveryAgain],
            activities=[activities.weigh, activities.weigh_again],
        )
    )

    assert len(found) == 2
    assert found[0].startswith(
        "workflow 'Delivery': is registered 2 times: acme_parcels.workflows:Delivery and "
        "acme_parcels.workflows:DeliveryAgain"
    )
    assert found[1].startswith(
        "activity 'weigh': is registered 2 times: acme_parcels.activities:weigh and "
        "acme_parcels.activities:weigh_again"
    )


def test_check_sync_activities_without_threads_are_reported(activities: ModuleType) -> None:
    """Plain def activities need threads; asynchronous and CPU-bound ones do not."""
    settings = Settings()
    concurrency = settings.concurrency.model_copy(update={"threads": 0})
    workload = parcels(activities=[activities.weigh, activities.pack, activities.squash])

    (text,) = problems(workload, settings.model_copy(update={"concurrency": concurrency}))

    assert "activity 'pack': is a plain def (acme_parcels.activities:pack)" in text
    assert "Set FLEET_CONCURRENCY_THREADS" in text


def test_check_versioning_on_without_behavior_names_workflow_and_both_cures(
    workflows: ModuleType,
) -> None:
    """With versioning on, each workflow needs a behaviour, of its own or from the settings."""
    workload = parcels(workflows=[workflows.Delivery, workflows.PickUp])
    bare = Settings(deployment=DeploymentSettings(build_id="b1"))
    default = Settings(
        deployment=DeploymentSettings(build_id="b1", default_versioning_behavior="pinned")
    )

    (text,) = problems(workload, bare)

    assert "workflow 'pick-up': has no versioning behaviour (acme_parcels.workflows:PickUp)" in text
    assert "@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)" in text
    assert "FLEET_DEPLOYMENT_DEFAULT_VERSIONING_BEHAVIOR" in text
    assert problems(workload, default) == []
    assert problems(workload) == []


@pytest.mark.parametrize(
    ("listed", "cause"),
    [
        ("acme_parcels.workflows", "(passthrough_modules=...) lists 'acme_parcels.workflows'. "),
        (
            "acme_parcels",
            "(passthrough_modules=...) lists 'acme_parcels', and with it everything below",
        ),
    ],
)
def test_check_workflow_module_passed_through_is_reported(
    workflows: ModuleType, listed: str, cause: str
) -> None:
    """Passing a workflow's module through is refused, also by way of a package above it."""
    workload = parcels(workflows=[workflows.Delivery], passthrough_modules=[listed])

    (text,) = problems(workload)

    assert text.startswith("workflow 'Delivery': its own module 'acme_parcels.workflows' is passed")
    assert cause in text
    assert "turns off the determinism checks of time, random and datetime" in text


def test_check_passed_through_models_and_unsandboxed_workflows_are_allowed(
    workflows: ModuleType,
) -> None:
    """Models may be passed through; an unsandboxed workflow has no checks to lose."""
    models = parcels(
        workflows=[workflows.Delivery],
        passthrough_modules=["acme_parcels.models", "acme_parcels.work"],
    )
    unsandboxed = parcels(workflows=[workflows.PickUp], passthrough_modules=["acme_parcels"])

    assert problems(models) == []
    assert problems(unsandboxed) == []


def test_check_start_of_unregistered_workflow_is_reported(workflows: ModuleType) -> None:
    """What ``fleet start`` starts must be one of the workload's own workflows."""
    start = WorkflowStart(workflow=workflows.PickUp, model=dict, workflow_id=str)

    (text,) = problems(parcels(workflows=[workflows.Delivery], start=start))

    assert "WorkflowStart starts acme_parcels.workflows:PickUp, which it does not register" in text
    assert problems(parcels(workflows=[workflows.PickUp], start=start)) == []


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("", "has no env_prefix"),
        ("fleet_parcels_", "has the env_prefix 'fleet_parcels_', which belongs to the runtime"),
        (None, "is not a pydantic-settings class"),
    ],
)
def test_check_settings_without_prefix_of_their_own_are_reported(
    activities: ModuleType, prefix: str | None, told: str
) -> None:
    """A workload's settings need a prefix that is nobody else's."""
    settings: type = dict
    if prefix is not None:

        class ParcelSettings(BaseSettings):
            model_config = SettingsConfigDict(env_prefix=prefix or "")

        settings = ParcelSettings

    (text,) = problems(parcels(activities=[activities.weigh], settings=settings))

    assert told in text
    assert "SettingsConfigDict(env_prefix='PARCELS_')" in text


def test_check_several_mistakes_reports_all(activities: ModuleType, workflows: ModuleType) -> None:
    """All problems of all checks come together, ready for one error."""
    workload = Workload[Any, Any](
        name="Parcels!",
        workflows=[workflows.Undecorated],
        activities=[activities.weigh, activities.weigh_again],
    )

    error = WorkloadError(check_workload(workload, Settings()))

    assert len(error.problems) == 3
    assert str(error).startswith("workload: 3 problems\n  - workload 'Parcels!': ")


async def test_build_activities_binds_methods_of_one_instance(activities: ModuleType) -> None:
    """A class is built once, with the resources; own and inherited activities are bound."""
    workload = parcels(activities=[activities.weigh, activities.Stock], resources=resources)
    pool = object()

    built = build_activities(workload, pool)

    named = {function.__name__: function for function in built}
    assert set(named) == {"weigh", "open_gate", "reserve", "release"}
    assert activities.Stock.built == 1
    assert named["weigh"] is activities.weigh
    assert await named["reserve"]("parcel") is pool
    assert await named["open_gate"]() == "open"


async def test_build_activities_class_without_arguments_needs_no_resources(
    activities: ModuleType,
) -> None:
    """A class whose constructor takes nothing is built without the resources."""
    (stamp,) = build_activities(parcels(activities=[activities.Plain]), None)
    (again,) = build_activities(parcels(activities=[activities.Plain], resources=resources), 1)

    assert await stamp() == "stamped"
    assert await again() == "stamped"


def test_build_activities_class_that_is_an_activity_registers_its_instance(site: Site) -> None:
    """A class with @activity.defn on itself is built, and the object is the activity."""
    module = site.module(
        "acme_parcels.callables",
        """
        from temporalio import activity

        @activity.defn
        class Scan:
            async def __call__(self, parcel: str) -> str:
                return parcel
        """,
    )
    workload = parcels(activities=[module.Scan])

    (built,) = build_activities(workload, None)

    assert isinstance(built, module.Scan)
    assert problems(workload) == []
    assert describe(workload).activities[0].type == "Scan"


def test_nexus_handlers_are_checked_built_and_described(site: Site) -> None:
    """Nexus handlers are built with the resources, described by service, and checked."""
    module = site.module(
        "acme_parcels.nexus",
        """
        import nexusrpc
        import nexusrpc.handler

        @nexusrpc.service(name="tracking")
        class Tracking:
            find: nexusrpc.Operation[str, str]

        @nexusrpc.handler.service_handler(service=Tracking)
        class TrackingHandler:
            def __init__(self, resources: object) -> None:
                self.resources = resources

            @nexusrpc.handler.sync_operation
            async def find(self, ctx: nexusrpc.handler.StartOperationContext, key: str) -> str:
                return key

        class Stranger: ...
        """,
    )
    sound = parcels(nexus_handlers=[module.TrackingHandler], resources=resources)
    wrong = parcels(nexus_handlers=[module.TrackingHandler, module.Stranger])

    (handler,) = build_nexus_handlers(sound, "pool")
    stranger, unbuildable = sorted(problems(wrong))

    assert isinstance(handler, module.TrackingHandler)
    assert handler.resources == "pool"
    assert problems(sound) == []
    assert describe(sound).nexus_services == ("tracking",)
    assert "Nexus handler acme_parcels.nexus:Stranger: is listed" in stranger
    assert "cannot be built: its constructor needs resources" in unbuildable


def test_describe_tells_everything_as_json(
    site: Site, activities: ModuleType, workflows: ModuleType
) -> None:
    """The description has workflows, handlers, activities, models and the distribution."""

    class ParcelSettings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="PARCELS_")

    site.offer("acme-parcels", "4.5.6", parcels="acme_parcels:workload")
    workload = parcels(
        task_queue="eu",
        description="Delivers parcels.",
        workflows=[workflows.PickUp, workflows.Delivery],
        activities=[activities.weigh, activities.squash, activities.pack, activities.Stock],
        served_elsewhere=["label", "frank"],
        settings=ParcelSettings,
        resources=resources,
        health_checks={"database": resources},
    )

    described = json.loads(json.dumps(dataclasses.asdict(describe(workload))))

    assert described == {
        "name": "parcels",
        "description": "Delivers parcels.",
        "task_queue": "eu",
        "distribution": "acme-parcels",
        "release": "4.5.6",
        "workflows": [
            {
                "type": "Delivery",
                "module": "acme_parcels.workflows",
                "versioning_behavior": "pinned",
                "sandboxed": True,
                "signals": ["*", "cancel"],
                "queries": ["state"],
                "updates": ["redirect"],
            },
            {
                "type": "pick-up",
                "module": "acme_parcels.workflows",
                "versioning_behavior": None,
                "sandboxed": False,
                "signals": [],
                "queries": [],
                "updates": [],
            },
        ],
        "activities": [
            {"type": "open_gate", "model": "async", "module": "acme_parcels.activities"},
            {"type": "pack", "model": "thread", "module": "acme_parcels.activities"},
            {"type": "release-stock", "model": "thread", "module": "acme_parcels.activities"},
            {"type": "reserve", "model": "async", "module": "acme_parcels.activities"},
            {"type": "squash", "model": "process", "module": "acme_parcels.activities"},
            {"type": "weigh", "model": "async", "module": "acme_parcels.activities"},
        ],
        "nexus_services": [],
        "served_elsewhere": ["frank", "label"],
        "settings_prefix": "PARCELS_",
        "has_resources": True,
        "health_checks": ["database"],
        "starts": [],
    }


def test_cpu_bound_modules_lists_modules_of_process_activities_only(
    activities: ModuleType,
) -> None:
    """Only modules with CPU-bound activities are imported by the processes in advance."""
    with_one = parcels(activities=[activities.weigh, activities.squash])
    without = parcels(activities=[activities.weigh, activities.Stock])

    assert cpu_bound_modules(with_one) == ["acme_parcels.activities"]
    assert cpu_bound_modules(without) == []


def test_describe_cpu_bound_activity_of_the_package_itself(site: Site) -> None:
    """A function under @activity.defn and @cpu_bound is described as running in a process."""
    module = site.module(
        "acme_parcels.scores",
        """
        from temporal_fleet import cpu_bound
        from temporalio import activity

        @activity.defn
        @cpu_bound
        def score(data: bytes) -> int:
            return len(data)
        """,
    )

    (described,) = describe(parcels(activities=[module.score])).activities

    assert (described.type, described.model) == ("score", "process")
    assert cpu_bound_modules(parcels(activities=[module.score])) == ["acme_parcels.scores"]
