"""The workflow sandbox: what stays refused, what is shared, on a real (time-skipping) server."""

from __future__ import annotations

import os
import textwrap
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from temporal_fleet.errors import WorkloadError
from temporal_fleet.registration import build_worker
from temporal_fleet.registration.sandbox_imports import CHEAP_IMPORT
from temporal_fleet.testing import MissingToolError, time_skipping
from temporal_fleet.workload import Workload

if TYPE_CHECKING:
    from tests.unit.conftest import Site

MODELS = """
    from pydantic import BaseModel

    class Parcel(BaseModel):
        key: str
        grams: int
"""

WORKFLOWS = """
    import random
    import time
    from datetime import datetime, timedelta

    import structlog
    from temporalio import workflow
    from temporal_fleet import errors

    from acme_parcels.models import Parcel

    log = structlog.get_logger()

    @workflow.defn
    class Forbidden:
        @workflow.run
        async def run(self, what: str) -> None:
            if what == "now":
                datetime.now()
            elif what == "time":
                time.time()
            elif what == "random":
                random.random()

    @workflow.defn
    class Delivery:
        @workflow.run
        async def run(self, parcel: Parcel) -> Parcel:
            log.bind(parcel=parcel.key)
            heavier = await workflow.execute_activity(
                "Scale.weigh", parcel, result_type=Parcel,
                start_to_close_timeout=timedelta(seconds=5)
            )
            return heavier.model_copy(update={"key": heavier.key.upper()})
"""

ACTIVITIES = """
    from acme_parcels.models import Parcel
    from temporalio import activity

    class Scale:
        def __init__(self, grams: int) -> None:
            self.grams = grams

        @activity.defn(name="Scale.weigh")
        def weigh(self, parcel: Parcel) -> Parcel:
            return Parcel(key=parcel.key, grams=parcel.grams + self.grams)
"""


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a time-skipping server of its own."""
    try:
        async with time_skipping() as environment:
            yield environment.client
    except MissingToolError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def package(site: Site) -> Site:
    """The package ``acme_parcels`` with its workflows."""
    site.write("acme_parcels/models.py", MODELS)
    site.write("acme_parcels/activities.py", ACTIVITIES)
    site.write("acme_parcels/workflows.py", WORKFLOWS)
    return site


def worker(
    client: Client,
    workload: Workload[Any, Any],
    *,
    resources: object = None,
    threads: ThreadPoolExecutor | None = None,
) -> Worker:
    """The worker of a workload."""
    return build_worker(client, workload, resources, threads=threads, versioning=False)


@pytest.mark.parametrize("what", ["now", "time", "random"])
async def test_sandbox_nondeterministic_call_is_refused(
    package: Site, client: Client, what: str
) -> None:
    """A workflow that asks for the time or for chance is refused, models passed through or not."""
    forbidden = import_module("acme_parcels.workflows").Forbidden

    workload = Workload[Any, Any](
        name="parcels",
        workflows=[forbidden],
        passthrough_modules=["acme_parcels.models"],
        workflow_failure_exception_types=[RestrictedWorkflowAccessError],
    )

    async with worker(client, workload):
        with pytest.raises(WorkflowFailureError) as error:
            await client.execute_workflow(
                "Forbidden", what, id=f"forbidden-{what}", task_queue="parcels"
            )

    assert "from inside a workflow" in str(error.value.cause)


async def test_sandbox_models_pass_through_without_warning(package: Site, client: Client) -> None:
    """A workflow with pydantic models, structlog and built activities runs; warnings are errors."""
    scale = import_module("acme_parcels.activities").Scale
    parcel = import_module("acme_parcels.models").Parcel
    delivery = import_module("acme_parcels.workflows").Delivery

    workload = Workload[Any, Any](
        name="parcels",
        workflows=[delivery],
        activities=[scale],
        passthrough_modules=["acme_parcels.models"],
    )

    with ThreadPoolExecutor(1) as threads:
        async with worker(client, workload, resources=7, threads=threads):
            result = await client.execute_workflow(
                delivery.run,
                parcel(key="a", grams=5),
                id="delivery",
                task_queue="parcels",
                execution_timeout=timedelta(seconds=30),
            )

    assert result == parcel(key="A", grams=12)


async def test_sandbox_module_passed_through_by_package_is_refused(
    package: Site, client: Client
) -> None:
    """A package that passes its own workflows through is found when the worker is made."""
    package.write(
        "acme_parcels/__init__.py",
        """
        from temporalio import workflow

        with workflow.unsafe.imports_passed_through():
            from acme_parcels.workflows import Delivery
        """,
    )
    delivery = import_module("acme_parcels.workflows").Delivery

    error = not_prepared(client, Workload[Any, Any](name="parcels", workflows=[delivery]))

    (problem,) = error.problems
    assert "'acme_parcels.workflows' is passed through the sandbox" in str(problem)
    assert "__init__.py of 'acme_parcels'" in str(problem)


def not_prepared(client: Client, workload: Workload[Any, Any]) -> WorkloadError:
    """The error with which the worker's construction fails."""
    with pytest.raises(WorkloadError) as raised:
        worker(client, workload)
    return raised.value


REFUSES_SECOND_IMPORT = """
    from temporalio import workflow

    if workflow.unsafe.in_sandbox():
        raise ImportError("cannot load this module twice\\nand a second line")
"""

ASKS_WHETHER_SANDBOXED = """
    if workflow.unsafe.in_sandbox():
        raise RuntimeError("not here")
"""

WORKFLOW = """
    from temporalio import workflow
    {imports}

    @workflow.defn
    class {name}:
        @workflow.run
        async def run(self) -> None: ...
"""


async def test_sandbox_failing_imports_are_one_report_with_cures(
    site: Site, client: Client
) -> None:
    """Modules that fail in the sandbox are named for all workflows, each with cause and cure."""
    site.write("drivers/native.py", REFUSES_SECOND_IMPORT)
    site.write("acme_report/shared.py", "import drivers.native")
    indirect = site.module(
        "acme_report.indirect",
        WORKFLOW.format(name="Indirect", imports="from acme_report import shared"),
    ).Indirect
    own = site.module(
        "acme_report.own", WORKFLOW.format(name="Own", imports=ASKS_WHETHER_SANDBOXED)
    ).Own
    fine = site.module("acme_report.fine", WORKFLOW.format(name="Fine", imports="")).Fine

    error = not_prepared(
        client, Workload[Any, Any](name="reports", workflows=[fine, indirect, own])
    )

    first, second = map(str, error.problems)
    assert first.startswith(
        "workflow 'Indirect': importing its module 'acme_report.indirect' in the workflow sandbox failed "
        "in the module 'drivers.native' (acme_report.indirect -> acme_report.shared -> drivers.native), "
    )
    assert "native.py:" in first
    assert "ImportError: cannot load this module twice. " in first
    assert "Workload(passthrough_modules=['drivers'])" in first
    assert second.startswith("workflow 'Own': importing its module 'acme_report.own'")
    assert "own.py:" in second
    assert "RuntimeError: not here" in second
    assert "Move what cannot be imported twice" in second
    assert "passthrough_modules" not in second


async def test_sandbox_slow_import_is_told_once_with_the_module_to_pass_through(
    site: Site, client: Client
) -> None:
    """Two workflows of a module that imports slowly give one line, which names what is slow."""
    site.write("heavy/deep.py", "import time\ntime.sleep(0.4)")
    site.write("heavy/__init__.py", "from heavy import deep")
    site.write("light.py", "")
    source = WORKFLOW.format(name="First", imports="import light, heavy")
    second = WORKFLOW.format(name="Second", imports="")
    module = site.module("acme_slow.workflows", textwrap.dedent(source) + textwrap.dedent(second))
    workload = Workload[Any, Any](name="slow", workflows=[module.First, module.Second])

    with structlog.testing.capture_logs() as lines:
        worker(client, workload)

    (line,) = lines
    assert line["log_level"] == "warning"
    assert "slow" in line["event"]
    assert line["workflow_type"] == "First"
    assert line["seconds"] >= 0.4
    assert next(iter(line["slowest_imports"])) == "heavy"
    assert line["slowest_imports"]["heavy"] >= 0.4
    assert min(line["slowest_imports"].values()) >= CHEAP_IMPORT.total_seconds()


async def test_sandbox_unsandboxed_workflow_is_left_alone(site: Site, client: Client) -> None:
    """A workflow that declares itself unsandboxed runs without the checks."""
    module = site.module(
        "acme_parcels.clock",
        """
        from datetime import datetime
        from temporalio import workflow

        @workflow.defn(sandboxed=False)
        class Clock:
            @workflow.run
            async def run(self) -> bool:
                return datetime.now() is not None
        """,
    )
    workload = Workload[Any, Any](name="parcels", workflows=[module.Clock])

    async with worker(client, workload):
        assert await client.execute_workflow("Clock", id="clock", task_queue="parcels") is True
