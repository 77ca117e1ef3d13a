"""Activities and child workflows that a workflow calls, found in its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from temporal_fleet.registration import check_workload
from temporal_fleet.settings import Settings, WorkerSettings
from temporal_fleet.workload import Workload

if TYPE_CHECKING:
    from types import ModuleType

    from tests.unit.conftest import Site

ACTIVITIES = """
    from collections.abc import Sequence
    from enum import StrEnum

    from temporalio import activity
    from temporalio.common import RawValue

    class Names(StrEnum):
        WEIGH = "weigh"
        PACK = "pack"

    @activity.defn
    async def weigh(parcel: str) -> int: ...

    @activity.defn(name="wrap")
    async def pack(parcel: str) -> str: ...

    class Stock:
        @activity.defn
        async def reserve(self, parcel: str) -> None: ...

    @activity.defn
    class Scan:
        async def __call__(self, parcel: str) -> None: ...

    async def undecorated(parcel: str) -> None: ...

    @activity.defn(dynamic=True)
    async def anything(args: Sequence[RawValue]) -> None: ...
"""

HEADER = """
import asyncio
import functools
from datetime import timedelta

import temporalio.workflow as tw
from temporalio import workflow
from temporalio.workflow import execute_activity, start_child_workflow as begin

import acme_parcels.activities
from acme_parcels import activities
from acme_parcels.activities import Names, Scan, Stock, anything, pack, undecorated, weigh

SOON = timedelta(seconds=5)
HERE = "parcels"
THERE = "trucks"
NAME = "named"
OPTIONS = {"start_to_close_timeout": SOON}
AWAY = {"start_to_close_timeout": SOON, "task_queue": THERE}

@workflow.defn
class Child:
    @workflow.run
    async def run(self) -> None: ...

async def helper(parcel):
    await workflow.execute_activity("from-helper", parcel, start_to_close_timeout=SOON)

async def helper_by_name(name, parcel):
    await workflow.execute_activity(name, parcel, start_to_close_timeout=SOON)

class Base:
    async def inherited(self):
        await workflow.execute_activity("inherited", start_to_close_timeout=SOON)

    async def overridden(self):
        await workflow.execute_activity("overridden", start_to_close_timeout=SOON)
"""

CLASS = """
@workflow.defn
class Delivery(Base):
    step = "step"
    changing = "changing"

    @workflow.init
    def __init__(self, parcel: str, names: list[str]) -> None:
        self.changing = parcel

    async def overridden(self): ...

    async def inherited(self): ...

    @workflow.run
    async def run(self, parcel: str, names: list[str]) -> None:
        {statement}
"""


def load(site: Site, statement: str, *, header: str = HEADER, body: str = CLASS) -> ModuleType:
    """Import a module whose workflow contains this statement."""
    site.write("acme_parcels/activities.py", ACTIVITIES)
    return site.module("acme_parcels.delivery", header + body.format(statement=statement))


def problems(module: ModuleType, settings: Settings | None = None, **declared: Any) -> list[str]:
    """The problems of a workload whose only workflow is the module's, as text."""
    workload = Workload[Any, Any](name="parcels", workflows=[module.Delivery], **declared)
    return [str(problem) for problem in check_workload(workload, settings or Settings())]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ('workflow.execute_activity("lost", parcel)', "activity of type 'lost'"),
        ("workflow.execute_activity(weigh, parcel)", "activity of type 'weigh'"),
        ("workflow.start_activity(pack, parcel)", "activity of type 'wrap'"),
        ("workflow.execute_activity(activity=weigh, arg=parcel)", "activity of type 'weigh'"),
        ("workflow.execute_activity(activities.weigh)", "activity of type 'weigh'"),
        ("workflow.execute_activity(acme_parcels.activities.weigh)", "activity of type 'weigh'"),
        ("workflow.execute_activity(NAME)", "activity of type 'named'"),
        ("workflow.execute_activity(Names.PACK)", "activity of type 'pack'"),
        ("workflow.execute_activity(Names.PACK.value)", "activity of type 'pack'"),
        ("workflow.execute_activity(self.step)", "activity of type 'step'"),
        ("workflow.execute_activity_method(Stock.reserve)", "activity of type 'reserve'"),
        ("workflow.start_activity_method(Stock.reserve)", "activity of type 'reserve'"),
        ("workflow.execute_activity_class(Scan)", "activity of type 'Scan'"),
        ("workflow.execute_local_activity(weigh)", "activity of type 'weigh'"),
        ("workflow.start_local_activity(weigh)", "activity of type 'weigh'"),
        ("workflow.execute_local_activity_method(Stock.reserve)", "of type 'reserve'"),
        ("workflow.execute_child_workflow(Child.run)", "workflow of type 'Child'"),
        ('workflow.start_child_workflow("Lost")', "workflow of type 'Lost'"),
        ("tw.execute_activity(weigh)", "activity of type 'weigh'"),
        ("execute_activity(weigh)", "activity of type 'weigh'"),
        ("begin(Child.run)", "workflow of type 'Child'"),
        ("asyncio.gather(*[workflow.execute_activity(weigh, n) for n in names])", "'weigh'"),
        ("await helper(parcel)", "activity of type 'from-helper'"),
        ("workflow.execute_activity(weigh, task_queue=HERE)", "activity of type 'weigh'"),
        ("workflow.execute_activity(weigh, task_queue=None)", "activity of type 'weigh'"),
        (
            "workflow.execute_activity(weigh, task_queue=workflow.info().task_queue)",
            "activity of type 'weigh'",
        ),
        ("workflow.execute_activity(weigh, **OPTIONS)", "activity of type 'weigh'"),
    ],
)
def test_calls_unregistered_type_is_reported_with_its_line(
    site: Site, statement: str, told: str
) -> None:
    """A call of a type that nobody registers is reported with the file and line of the call."""
    module = load(site, statement)
    line = (HEADER + CLASS).split("\n").index("        {statement}") + 1

    (text,) = problems(module)

    assert text.startswith("workflow 'Delivery': calls ")
    assert told in text
    if "helper" not in statement:
        assert f"{module.__file__}:{line}, but no " in text
    assert "is registered on its task queue 'parcels'" in text


@pytest.mark.parametrize(
    "statement",
    [
        "workflow.execute_activity(parcel)",
        "workflow.execute_activity(self.changing)",
        "workflow.execute_activity(f'{parcel}-weigh')",
        "[workflow.execute_activity(weigh) for weigh in names]",
        "workflow.execute_activity(weigh, task_queue=THERE)",
        "workflow.execute_activity(weigh, task_queue='trucks')",
        "workflow.execute_activity(weigh, task_queue=parcel)",
        "workflow.execute_activity(weigh, **AWAY)",
        "workflow.execute_activity(weigh, **dict(OPTIONS))",
        "workflow.execute_activity(*names)",
        "workflow.execute_activity(anything)",
        "workflow.execute_child_workflow('Far', task_queue=THERE)",
        "await helper_by_name('lost', parcel)",
        "workflow.execute_activity(unknown_name)",
        "names.execute_activity('lost')",
        "workflow.sleep(1)",
    ],
)
def test_calls_that_cannot_be_known_are_left_alone(site: Site, statement: str) -> None:
    """A call that may go elsewhere, or to something that only the run decides, is no problem."""
    assert problems(load(site, statement)) == []


def test_calls_registered_types_are_no_problem(site: Site) -> None:
    """Calls of registered activities and child workflows are no problem."""
    statement = "workflow.execute_activity(weigh), begin(Child.run), tw.execute_activity('reserve')"
    module = load(site, statement)
    workload = Workload[Any, Any](
        name="parcels",
        workflows=[module.Delivery, module.Child],
        activities=[module.weigh, module.Stock],
    )

    assert check_workload(workload, Settings()) == []


def test_calls_local_activity_is_served_here_whatever_the_task_queue(site: Site) -> None:
    """A local activity runs in this worker, so it must be registered here and nowhere else."""
    (text,) = problems(load(site, "workflow.execute_local_activity(weigh)"))

    assert "List it in Workload(activities=...)" in text
    assert "task_queue=..." not in text


def test_calls_near_name_is_suggested(site: Site) -> None:
    """A misspelt type is answered with the nearest registered one."""
    module = load(site, "workflow.execute_activity('wiegh', parcel)")

    (text,) = problems(module, activities=[module.weigh])

    assert "Did you mean 'weigh'? Otherwise list it in Workload(activities=...)" in text
    assert "Workload(served_elsewhere=...) when another workload serves it" in text
    assert "or pass task_queue=... when it is served on another" in text


def test_calls_served_elsewhere_are_no_problem(site: Site) -> None:
    """Types that another workload serves on the same task queue need not be registered here."""
    module = load(site, "workflow.execute_activity(pack), workflow.start_child_workflow('Far')")

    assert problems(module, served_elsewhere=["wrap", "Far"]) == []


def test_calls_gap_beside_served_elsewhere_is_reported(site: Site) -> None:
    """What nobody declares to serve is reported, though other types are served elsewhere."""
    module = load(site, "workflow.execute_activity(pack), workflow.execute_activity('lost')")

    (text,) = problems(module, served_elsewhere=["wrap"])

    assert "no activity of type 'lost'" in text


def test_calls_local_activity_cannot_be_served_elsewhere(site: Site) -> None:
    """A local activity runs in the worker of its workflow: another workload cannot serve it."""
    module = load(site, "workflow.execute_local_activity(weigh)")

    (text,) = problems(module, served_elsewhere=["weigh"])

    assert "execute_local_activity(weigh)" in text
    assert "served_elsewhere" not in text


def test_served_elsewhere_and_here_is_a_contradiction(site: Site) -> None:
    """A type that the workload serves itself may not be declared as served elsewhere."""
    module = load(site, "workflow.execute_activity(weigh)")

    activity, workflow = problems(
        module, activities=[module.weigh], served_elsewhere=["weigh", "Delivery"]
    )

    assert "its served_elsewhere has 'weigh', which it serves itself (acme_parcels." in activity
    assert "its served_elsewhere has 'Delivery', which it serves itself" in workflow


def test_served_elsewhere_takes_names_alone(site: Site) -> None:
    """A function in served_elsewhere is refused, as only names are compared."""
    module = load(site, "pass")

    (text,) = problems(module, served_elsewhere=[module.weigh])

    assert "which is not the name of a type" in text
    assert "Write the activity or workflow type as a string" in text


def test_calls_undecorated_function_is_reported(site: Site) -> None:
    """A callee without its decorator would fail in the workflow, so it is reported before."""
    (text,) = problems(load(site, "workflow.execute_activity(undecorated, parcel)"))

    assert "but undecorated has no @activity.defn" in text


def test_calls_dynamic_activity_registered_serves_every_type(site: Site) -> None:
    """A dynamic activity serves every activity type, but no child workflow."""
    module = load(
        site, "workflow.execute_activity('lost'), workflow.execute_child_workflow('Lost')"
    )

    (text,) = problems(module, activities=[module.anything])

    assert "workflow of type 'Lost'" in text


def test_calls_task_queue_override_decides_what_is_here(site: Site) -> None:
    """With another task queue by setting, a call to the workload's own name goes elsewhere."""
    module = load(site, "workflow.execute_activity(weigh, task_queue='parcels')")
    vip = Settings(worker=WorkerSettings(task_queue="vip"))

    assert problems(module, vip) == []
    assert len(problems(module)) == 1


def test_calls_inherited_method_counts_unless_overridden(site: Site) -> None:
    """Methods of base classes count, except those that the workflow overrides."""
    body = CLASS.replace("    async def inherited(self): ...\n", "")
    module = load(site, "pass", body=body)

    (text,) = problems(module)

    assert "'inherited'" in text


def test_calls_one_helper_of_two_workflows_is_reported_once(site: Site) -> None:
    """A call in a function that several workflows share is one problem, not one for each."""
    second = CLASS.replace("class Delivery", "class Second")
    module = load(site, "await helper(parcel)", body=CLASS + second)
    workload = Workload[Any, Any](name="parcels", workflows=[module.Delivery, module.Second])

    assert len(check_workload(workload, Settings())) == 1


def test_calls_source_gone_is_silent(site: Site) -> None:
    """Without readable source nothing is known, so nothing is reported."""
    module = load(site, "workflow.execute_activity('lost')")
    assert module.__file__ is not None
    site.write("acme_parcels/delivery.py", "def broken(:\n")

    assert problems(module) == []
