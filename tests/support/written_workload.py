"""Writes a small installed workload into a directory, for tests that break or change its code."""

from __future__ import annotations

import os
from pathlib import Path

WORKFLOWS = """
import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from {package}.models import Greeting, Outcome

TEXT = "hello"


@workflow.defn
class Greet:
    def __init__(self) -> None:
        self.nudged = False

    @workflow.run
    async def run(self, greeting: Greeting) -> Outcome:
        if greeting.wants == "failure":
            raise ApplicationError("asked to fail", type="AskedToFail") from ValueError("no reason")
        if greeting.wants == "nudge":
            await workflow.wait_condition(lambda: self.nudged)
        if greeting.wants == "time":
            await asyncio.sleep(600)
        state = "greeted" if greeting.wants != "plain" else None
        return Outcome(state=state, text=f"{{TEXT}} {{greeting.name}}")

    @workflow.signal
    def nudge(self) -> None:
        self.nudged = True
"""

MODELS = """
from typing import Literal

from pydantic import BaseModel, Field


class Greeting(BaseModel):
    name: str = Field(min_length=1)
    wants: Literal["state", "plain", "failure", "nudge", "time"] = "state"
    priority: int = Field(default=1, ge=1)
    follow_up: Literal["none", "error"] = "none"
    note: str = ""


class Outcome(BaseModel):
    state: str | None
    text: str
"""

DECLARATION = """
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from temporal_fleet import WorkflowStart, Workload
from {package}.models import Greeting
from {package}.workflows import Greet

PERSON = SearchAttributeKey.for_keyword("Person")


async def follow_up(handle, greeting):
    if greeting.follow_up == "error":
        raise ValueError("no follow-up today")
    if greeting.wants == "nudge":
        await handle.signal(Greet.nudge)


workload = Workload(
    name="{name}",
    description="Greets",
    workflows=[Greet],
    start=WorkflowStart(
        workflow=Greet,
        model=Greeting,
        workflow_id=lambda greeting: f"{name}-{{greeting.name}}",
        search_attributes=lambda greeting: TypedSearchAttributes(
            [SearchAttributePair(PERSON, greeting.name)]
        ),
        follow_up=follow_up,
    ),
)
"""


class WrittenWorkload:
    """A workload whose source is at hand; made by :func:`write_workload`."""

    def __init__(self, site: Path, name: str) -> None:
        self.site = site
        self.name = name
        self.package = site / name.replace("-", "_")

    def write(self, file: str, text: str) -> None:
        """Write one of its modules at once, as an editor does."""
        target = self.package / file
        draft = target.with_suffix(".draft~")
        draft.write_text(text.format(package=self.package.name, name=self.name))
        draft.rename(target)


def write_workload(site: Path, name: str) -> WrittenWorkload:
    """Write a workload into *site*, which must be on the path of whoever shall find it."""
    workload = WrittenWorkload(site, name)
    workload.package.mkdir(parents=True)
    workload.write("models.py", MODELS)
    workload.write("workflows.py", WORKFLOWS)
    workload.write("__init__.py", DECLARATION)
    info = site / f"{workload.package.name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[temporal_fleet.workloads]\n{name} = {workload.package.name}:workload\n"
    )
    return workload


def fleet_environment(site: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a ``fleet`` process that finds the workloads in *site*."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET_", "TEMPORAL_", "OTEL_"))
    }
    return {**inherited, "PYTHONPATH": str(site), **variables}
