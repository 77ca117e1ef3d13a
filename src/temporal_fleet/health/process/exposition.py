r"""Merge Prometheus texts: the SDK core's and the worker's, with no family declared twice.

Understands only as much of the format as that needs; values pass untouched. Label values come from
whoever starts a workflow, so nothing but ``\n`` ends a line: ``str.splitlines`` would cut at a
dozen other characters, which the format leaves as they are.
Source of the format:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .probes import MetricsState

    Families = dict[str, "Family"]
    Sample = tuple[str, str, str]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OUTCOME_BY_COUNTER = {
    "temporal_workflow_completed_total": "completed",
    "temporal_workflow_failed_total": "failed",
    "temporal_workflow_canceled_total": "canceled",
    "temporal_workflow_continue_as_new_total": "continued_as_new",
}
_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL_NAME = "[a-zA-Z_][a-zA-Z0-9_]*"
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_LABEL = f"{_LABEL_NAME}={_QUOTED}"
_LABELS = f"{_LABEL}(?:,{_LABEL})*"
_SAMPLE_LINE = re.compile(rf"({_NAME})(?:\{{({_LABELS})?,?\}})?( [0-9A-Za-z.+-]+(?: -?[0-9]+)?)")
_HEADER_LINE = re.compile(f"# (HELP|TYPE) ({_NAME})(?: .*)?")
_NAMED_LABEL = re.compile(f"({_LABEL_NAME})={_QUOTED}")
_LONGEST_QUOTE = 200


class MalformedError(Exception):
    """A text that is no Prometheus exposition, or only the beginning of one."""


class Family:
    """One metric with all its samples.

    Attributes:
        header: Its ``# HELP`` and ``# TYPE`` lines by keyword.
        samples: Name, labels without the braces, and the rest of the line from the space on.
    """

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self.samples: list[Sample] = []


def parse(text: bytes) -> Families:
    """Return the families of an exposition.

    Raises:
        MalformedError: It is not UTF-8, was cut, or has a line that Prometheus would refuse
            together with everything else.
    """
    try:
        *lines, rest = text.decode().split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8: {error}") from error
    if rest:
        raise MalformedError(f"cut within the line {rest[:_LONGEST_QUOTE]!r}")
    families: Families = {}
    current, family = Family(), ""
    for line in lines:
        if sample := _SAMPLE_LINE.fullmatch(line):
            name, labels, value = sample.groups()
            if not _belongs(name, family):
                family = name
                current = families.setdefault(family, Family())
            current.samples.append((name, labels or "", value))
        elif header := _HEADER_LINE.fullmatch(line):
            keyword, family = header.groups()
            current = families.setdefault(family, Family())
            current.header.setdefault(keyword, line)
        elif line and not line.startswith("#"):
            raise MalformedError(f"not a sample: {line[:_LONGEST_QUOTE]!r}")
    return families


def merge(core: Families, worker: Families, state: MetricsState, stale: Mapping[str, bool]) -> str:
    """Return one exposition of everything.

    Args:
        core: What the SDK core's endpoint says; carries deployment and build ID already.
        worker: What the worker's ``prometheus_client`` registries say, without them.
        state: Labels to add to every sample of *worker* that does not have them, and what the
            families are called that are added here.
        stale: By source (``core``, ``worker``): whether what it says is older, because it did not
            answer in time or not well.
    """
    pairs = {name: f'{name}="{_escape(value)}"' for name, value in state["labels"].items()}
    families: Families = {}
    _add(families, core, {})
    _add(families, _outcomes(core, *state["outcomes"]), {})
    _add(families, worker, pairs)
    _add(families, _staleness(stale, *state["staleness"]), pairs)
    lines: list[str] = []
    for family in families.values():
        lines += family.header.values()
        lines += (
            f"{name}{{{pairs_text}}}{value}" if pairs_text else f"{name}{value}"
            for name, pairs_text, value in family.samples
        )
    return "\n".join(lines) + "\n"


def _belongs(sample: str, family: str) -> bool:
    return sample == family or (
        sample.startswith(family) and sample[len(family) :] in _HISTOGRAM_SUFFIXES
    )


def _add(families: Families, more: Families, pairs: Mapping[str, str]) -> None:
    for name, family in more.items():
        merged = families.setdefault(name, Family())
        merged.header = family.header | merged.header
        merged.samples += (
            (sample, _with_labels(labels, pairs) if pairs else labels, value)
            for sample, labels, value in family.samples
        )


def _with_labels(labels: str, pairs: Mapping[str, str]) -> str:
    present = {label[1] for label in _NAMED_LABEL.finditer(labels)}
    missing = [pair for name, pair in pairs.items() if name not in present]
    return ",".join([*missing, labels] if labels else missing)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _outcomes(core: Families, name: str, meaning: str) -> Families:
    # Derived here, from counters that the core keeps anyway, so that workflows pay nothing for it.
    samples = [
        (name, ",".join(filter(None, [f'outcome="{outcome}"', labels])), value)
        for counter, outcome in _OUTCOME_BY_COUNTER.items()
        if counter in core
        for _, labels, value in core[counter].samples
    ]
    return _declared(name, "counter", meaning, samples) if samples else {}


def _staleness(stale: Mapping[str, bool], name: str, meaning: str) -> Families:
    samples = [(name, f'source="{source}"', f" {int(old)}") for source, old in stale.items()]
    return _declared(name, "gauge", meaning, samples)


def _declared(name: str, kind: str, meaning: str, samples: list[Sample]) -> Families:
    family = Family()
    family.header = {"HELP": f"# HELP {name} {meaning}", "TYPE": f"# TYPE {name} {kind}"}
    family.samples = samples
    return {name: family}
