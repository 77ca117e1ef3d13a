"""What goes into the workflows and comes out of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Work(BaseModel):
    """What a workflow is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    activity: str = "step"
    """Name of the activity that each step runs."""
    steps: int = 1
    seconds: float = 0
    """How long each activity takes."""
    waits: bool = False
    """Whether to wait for the signal ``proceed`` before each step but the first."""
    heartbeat_timeout: float = 20
    """Seconds without a heartbeat after which an attempt counts as lost."""
    attempts: int = 5
    """Most attempts of each activity."""


class StepReport(BaseModel):
    """Where one attempt of an activity was executed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build_id: str
    """Build ID of the process that executed it."""
    pod: str
    attempt: int


class WorkReport(BaseModel):
    """What a workflow did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workflow_builds: list[str]
    """Build ID that executed the workflow task before each step."""
    steps: list[StepReport]
