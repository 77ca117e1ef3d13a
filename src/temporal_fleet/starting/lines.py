"""What a line of the file is and what became of it: the parts of starting that touch nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from typing_extensions import override

ModelT = TypeVar("ModelT", bound=BaseModel)

LONGEST_LINE = 8 << 20
"""Bytes a line may have: twice what a server takes in one call, and little enough to hold fifty of them."""

BAD_OUTCOMES = frozenset(
    {"failed", "terminated", "timed out", "lost", "unreadable", "still running"}
)
"""Outcomes with which a run does not count as successful."""


class LineStatus(StrEnum):
    """What became of one line."""

    STARTED = "started"
    ALREADY_THERE = "already there"
    """Its workflow was started before: by an earlier run, or by the same line further up."""
    REJECTED = "rejected"
    """The line is not what the workload takes; the server has not seen it."""
    FAILED = "failed"
    """The server refused it, or what follows its start failed."""


@dataclass(frozen=True)
class TooLong:
    """Stands for a line that was not kept, as it is longer than :data:`LONGEST_LINE`."""

    length: int
    """Its bytes."""

    @override
    def __str__(self) -> str:
        """Return why it is rejected."""
        return (
            f"the line is {self.length} bytes long, and {LONGEST_LINE} are the limit. Keep large data "
            "elsewhere, and name its place in the line"
        )


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """What became of one line of the file."""

    line: int
    """Number of the line, the first is 1."""
    status: LineStatus
    workflow_id: str | None = None
    """None when the line is no good."""
    reason: str | None = None
    """Why it was rejected or failed; None when it was not."""
    outcome: str | None = None
    """How the workflow ended: the ``state`` of its result if it has one, else ``completed``; or
    ``failed``, ``canceled``, ``terminated``, ``timed out``, ``lost``, ``unreadable`` (it ended, with a
    result that cannot be decrypted), ``still running``. None when nobody waited."""
    result: object = None
    """What the workflow returned; of one that failed, its failure and what caused that."""
    duration: timedelta | None = None
    """From its start to its end; None when nobody waited."""


@dataclass(kw_only=True)
class StartReport:
    """Counts of a run, while it goes on and at its end."""

    lines: int = 0
    """Lines read so far, without empty ones."""
    bytes_read: int = 0
    counts: Counter[LineStatus] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    """How many workflows ended how; empty when nobody waited."""
    rejected: list[LineResult] = field(default_factory=list)
    """The lines that were rejected or failed."""
    retries: int = 0
    """Calls repeated because the server was busy or away."""
    elapsed: timedelta = timedelta(0)
    start_latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds each start took, including repeats."""
    durations: array[float] = field(default_factory=lambda: array("d"))
    """Seconds each workflow took; empty when nobody waited."""

    def count_retry(self) -> None:
        """Count a call that is repeated because the server is busy or away."""
        self.retries += 1

    @property
    def ok(self) -> bool:
        """Whether every line was started or already there, and no workflow failed."""
        return not self.rejected and not any(self.outcomes[name] for name in BAD_OUTCOMES)

    def summary(self) -> dict[str, Any]:
        """Return the counts ready for JSON; durations in seconds."""
        return {
            "lines": self.lines,
            **{status.value.replace(" ", "_"): self.counts[status] for status in LineStatus},
            "outcomes": dict(self.outcomes),
            "retries": self.retries,
            "elapsed_seconds": round(self.elapsed.total_seconds(), 3),
            "start_latency_seconds": _quantiles(self.start_latencies),
            "duration_seconds": _quantiles(self.durations),
        }


def quantile(values: array[float], share: float) -> float | None:
    """Return the value below which *share* (0 to 1) of the values lie; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _quantiles(values: array[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95), "max": max(values)}
    return {name: round(value or 0, 4) for name, value in found.items()}


def parse_line(raw: bytes, model: type[ModelT]) -> ModelT | str:
    """Validate one line.

    Returns:
        The model, or why the line is no good: what is wrong where, and with which value.
    """
    try:
        return model.model_validate_json(raw.strip())
    except ValidationError as error:
        return "; ".join(_explain(details) for details in error.errors(include_url=False))


def _explain(details: Any) -> str:
    message = str(details["msg"])
    if details["type"] == "json_invalid":
        return message.replace("Invalid JSON:", "not JSON:").replace(
            " at line 1 column", " at column"
        )
    place = ".".join(str(part) for part in details["loc"])
    text = f"{place}: {message}" if place else message
    value = details.get("input")
    # Whole objects tell nothing; the value of a missing field is the object around it.
    shows = isinstance(value, str | int | float | bool) and details["type"] != "missing"
    return f"{text} (it is {value!r:.80})" if shows else text
