"""What the probes say about a worker; pure functions of its state and its heartbeat's age."""

from __future__ import annotations

import time

# Not typing's: importing typing would double the time in which this process starts.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    class Check(TypedDict):
        """One named check, as the worker publishes it."""

        ok: bool
        reason: str
        """Why it is so; empty when there is nothing to say."""
        since: float
        """When `ok` last changed, on the monotonic clock, in seconds."""

    class MetricsState(TypedDict):
        """How metrics are collected."""

        core_port: int | None
        """Loopback port of the SDK's own endpoint; None = not open (yet)."""
        labels: dict[str, str]
        """Labels for all metrics that do not come from the SDK's core, which labels its own."""
        outcomes: tuple[str, str]
        """Name and help text of the family of workflow outcomes, which the core only implies."""
        staleness: tuple[str, str]
        """Name and help text of the family that says which source is stale."""

    class WorkerState(TypedDict):
        """The document in the shared page."""

        phase: str
        since: float
        """When the phase began, on the monotonic clock, in seconds."""
        started: bool
        liveness_timeout: float
        """Oldest acceptable heartbeat, in seconds."""
        checks: dict[str, Check]
        metrics: MetricsState | None
        """None = metrics are off."""

    Line = tuple[str, bool, str]


PROBES = ("startupz", "livez", "readyz")
"""Names of the probes, which are also their paths."""


def answer_probe(
    probe: str, state: WorkerState, heartbeat_age: float, *, verbose: bool
) -> tuple[bool, str]:
    """Answer a probe.

    Args:
        probe: One of :data:`PROBES`.
        state: What the worker published last.
        heartbeat_age: Age of the event loop's last heartbeat in seconds.
        verbose: Whether to list every check also when all is well.

    Returns:
        Whether the probe passes, and the text that says why, in the style of Kubernetes' own
        components.
    """
    lines = _LINES[probe](state, heartbeat_age)
    passed = all(ok for _, ok, _ in lines)
    if passed and not verbose:
        return True, "ok\n"
    shown = lines if verbose else [line for line in lines if not line[1]]
    text = "".join(_format(name, ok, text) for name, ok, text in shown)
    return passed, f"{text}{probe} check {'passed' if passed else 'failed'}\n"


def _format(name: str, ok: bool, text: str) -> str:
    mark, word = ("[+]", "ok") if ok else ("[-]", "failed")
    return f"{mark}{name} {word}: {text}\n" if text else f"{mark}{name} {word}\n"


def _live(state: WorkerState, heartbeat_age: float) -> list[Line]:
    limit = state["liveness_timeout"]
    text = f"heartbeat {heartbeat_age:.1f} s old, limit {limit:g} s"
    return [("event-loop", heartbeat_age <= limit, text)]


def _ready(state: WorkerState, heartbeat_age: float) -> list[Line]:
    now = time.monotonic()
    polling = state["phase"] == "polling"
    lines = _live(state, heartbeat_age)
    lines.append(("worker", polling, f"{state['phase']} for {now - state['since']:.1f} s"))
    for name, check in state["checks"].items():
        duration = f"for {now - check['since']:.1f} s"
        reason = check["reason"]
        lines.append((name, check["ok"], f"{reason} ({duration})" if reason else duration))
    return lines


def _started(state: WorkerState, _heartbeat_age: float) -> list[Line]:
    if state["started"]:
        return [("started", True, "pollers were confirmed")]
    check = state["checks"].get("pollers")
    reason = f": {check['reason']}" if check and check["reason"] else ""
    return [("started", False, f"{state['phase']}, pollers not confirmed yet{reason}")]


_LINES = {"startupz": _started, "livez": _live, "readyz": _ready}


def index(paths: Sequence[str]) -> str:
    """Return the text of ``/``: the paths that are served."""
    return "".join(f"{path}\n" for path in paths)
