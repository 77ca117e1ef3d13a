"""Merge Prometheus texts: the SDK core's and the worker's, with no family declared twice.

Works on lines and understands only as much of the format as that needs; values pass untouched.
Source of the format:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Families = dict[str, "Family"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES_METRIC = "fleet_workflow_outcomes_total"
STALE_METRIC = "fleet_metrics_stale"

_OUTCOME_BY_COUNTER = {
    "temporal_workflow_completed_total": "completed",
    "temporal_workflow_failed_total": "failed",
    "temporal_workflow_canceled_total": "canceled",
    "temporal_workflow_continue_as_new_total": "continued_as_new",
}
_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")


class Family:
    """One metric with all its samples.

    Attributes:
        header: Its ``# HELP`` and ``# TYPE`` lines by keyword.
        samples: Its sample lines, in order.
    """

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self.samples: list[str] = []


def merge(core: str, worker: str, labels: Mapping[str, str], stale: Mapping[str, bool]) -> str:
    """Return one exposition of everything.

    Args:
        core: Text of the SDK core's endpoint; carries deployment and build ID already.
        worker: Text of the worker's ``prometheus_client`` registries, without them.
        labels: Labels to add to every sample of *worker* that does not have them.
        stale: By source (``core``, ``worker``): whether its text is an older one because it did not
            answer in time.
    """
    families: Families = {}
    _add(families, core.splitlines(), {})
    _add_outcomes(families)
    pairs = {name: f'{name}="{_escape(value)}"' for name, value in labels.items()}
    _add(families, worker.splitlines(), pairs)
    _add(families, _stale_lines(stale), pairs)
    lines: list[str] = []
    for family in families.values():
        lines += family.header.values()
        lines += family.samples
    return "\n".join(lines) + "\n"


def _add(families: Families, lines: Iterable[str], pairs: Mapping[str, str]) -> None:
    current, name = Family(), ""
    for line in lines:
        if line.startswith("# "):
            _, keyword, name, *_ = line.split(" ", 3)
            current = families.setdefault(name, Family())
            current.header.setdefault(keyword, line)
        elif line:
            end = _name_end(line)
            if not _belongs(line[:end], name):
                name = line[:end]
                current = families.setdefault(name, Family())
            current.samples.append(_with_labels(line, end, pairs) if pairs else line)


def _belongs(sample: str, family: str) -> bool:
    return sample == family or (
        sample.startswith(family) and sample[len(family) :] in _HISTOGRAM_SUFFIXES
    )


def _name_end(line: str) -> int:
    brace = line.find("{")
    return brace if brace >= 0 else line.index(" ")


def _with_labels(line: str, end: int, pairs: Mapping[str, str]) -> str:
    if line[end] != "{":
        return f"{line[:end]}{{{','.join(pairs.values())}}}{line[end:]}"
    missing = [pair for name, pair in pairs.items() if not _has_label(line, name)]
    if not missing:
        return line
    comma = "" if line[end + 1] == "}" else ","
    return f"{line[: end + 1]}{','.join(missing)}{comma}{line[end + 1 :]}"


def _has_label(line: str, name: str) -> bool:
    return f'{{{name}="' in line or f',{name}="' in line


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _add_outcomes(families: Families) -> None:
    # Derived here, from counters that the core keeps anyway, so that workflows pay nothing for it.
    samples = [
        f'{OUTCOMES_METRIC}{{outcome="{outcome}",{sample[len(counter) + 1 :]}'
        for counter, outcome in _OUTCOME_BY_COUNTER.items()
        if counter in families
        for sample in families[counter].samples
    ]
    if samples:
        header = [
            f"# HELP {OUTCOMES_METRIC} Workflow runs that ended on this worker, by outcome.",
            f"# TYPE {OUTCOMES_METRIC} counter",
        ]
        _add(families, [*header, *samples], {})


def _stale_lines(stale: Mapping[str, bool]) -> list[str]:
    help_text = "Whether metrics of this source are old because it did not answer in time."
    return [
        f"# HELP {STALE_METRIC} {help_text}",
        f"# TYPE {STALE_METRIC} gauge",
        *(f'{STALE_METRIC}{{source="{source}"}} {int(old)}' for source, old in stale.items()),
    ]
