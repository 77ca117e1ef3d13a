"""Whatever the sources of metrics say, the merged exposition is one that Prometheus accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from temporal_fleet.health.process.exposition import MalformedError, merge, parse

if TYPE_CHECKING:
    from temporal_fleet.health.process.exposition import Families
    from temporal_fleet.health.process.probes import MetricsState

# Every run tries the same examples: a failure here is a failure everywhere.
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=200)
STATE: MetricsState = {
    "core_port": None,
    "labels": {"deployment": "orders", "build_id": "b1"},
    "outcomes": ("fleet_outcomes_total", "Outcomes."),
    "staleness": ("fleet_stale", "Staleness."),
}
FRESH = {"core": False, "worker": False}
LINE_SEPARATORS = "\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"

VALUES = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(f'\n\\"{{}},= #{LINE_SEPARATORS}'))
)


def exposition(*label_values: str) -> bytes:
    """Return what prometheus_client exposes for a gauge with these values of its label."""
    registry = CollectorRegistry()
    gauge = Gauge(
        "temporal_workflow_completed_total", "Help\u2028text.", ["kind"], registry=registry
    )
    for number, value in enumerate(label_values):
        gauge.labels(value).set(number)
    return bytes(generate_latest(registry))


@EXAMPLES
@given(st.lists(VALUES, unique=True, max_size=5))
@example([f"a{LINE_SEPARATORS}b"])
@example([',build_id="', ",build_id="])
def test_label_values_of_any_kind_arrive_unchanged(values: list[str]) -> None:
    """Every label value comes out as it went in, in both halves, with the labels of ours."""
    families = parse(exposition(*values))

    text = merge(families, families, STATE, FRESH)

    found = [
        (sample.labels["kind"], sample.labels.get("build_id"))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "temporal_workflow_completed_total"
    ]
    assert found == [*((value, None) for value in values), *((value, "b1") for value in values)]


def parsed_or_refused(text: bytes) -> Families | None:
    """Return the families of *text*, or None when it is refused as it should be."""
    try:
        return parse(text)
    except MalformedError:
        return None


@EXAMPLES
@given(st.one_of(st.binary(), VALUES.map(str.encode)))
@example(b"# HELP\n")
@example(b"#\n# TYPE\n# EOF\n")
@example(b"temporal_workflow_completed_total 1\n")
@example(b'x{a="1" 2\n')
def test_bytes_of_any_kind_are_parsed_or_refused(text: bytes) -> None:
    """No answer ends the process; what is accepted makes an exposition that can be read."""
    families = parsed_or_refused(text)

    if families is not None:
        merged = merge(families, families, STATE, FRESH)
        assert list(text_string_to_metric_families(merged))


@EXAMPLES
@given(st.integers(0, 10_000))
def test_cut_exposition_is_never_taken_for_more_than_whole_lines(length: int) -> None:
    """A text that ends within a line is refused, wherever the cut is."""
    whole = exposition("a", "b\u2028c", "d\\")
    cut = whole[: length % len(whole)]

    assert (parsed_or_refused(cut) is None) == (not cut.endswith(b"\n") and cut != b"")


@pytest.mark.parametrize(
    "line", ["x", "x{", 'x{a="b}', "x{a=1} 1", "x 1 2 3", "9x 1", 'x{a="1"b="2"} 1', "x\u2028 1"]
)
def test_line_that_prometheus_would_refuse_is_named(line: str) -> None:
    """One bad line would cost Prometheus the whole scrape, so it costs that source instead."""
    with pytest.raises(MalformedError) as refused:
        parse(f"good 1\n{line}\n".encode())

    assert repr(line) in str(refused.value)
