"""The parts of starting from a file that need no server."""

from __future__ import annotations

import os
import re
import sys
from array import array
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from temporal_fleet import WorkflowStart, Workload
from temporal_fleet.client.calls import Pace
from temporal_fleet.errors import FleetError, WorkloadError
from temporal_fleet.starting import (
    LineResult,
    LineStatus,
    StartReport,
    choose_start,
    read_lines,
)
from temporal_fleet.starting.lines import LONGEST_LINE, TooLong, parse_line, quantile


class Item(BaseModel):
    sku: str
    quantity: int = Field(ge=1)


class Basket(BaseModel):
    items: list[Item]


def test_parse_line_of_a_good_line_returns_the_model() -> None:
    """A good line becomes the workload's model."""
    assert parse_line(b'{"sku": "a", "quantity": 2}\n', Item) == Item(sku="a", quantity=2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"sku": "a", "quantity": 0}', "quantity: .*greater than or equal to 1 .it is 0."),
        (b'{"quantity": 1}', "^sku: Field required$"),
        (b'{"sku": 1}', "sku: .*string .it is 1.; quantity: Field required"),
        (b'{"sku": "a", "quant', "^not JSON: EOF while parsing a string at column 19$"),
        (b"\xff\xfe", "^not JSON: "),
        (b"[]", "valid dictionary|object"),
    ],
)
def test_parse_line_of_a_bad_line_says_what_is_wrong_where(line: bytes, reason: str) -> None:
    """The reason names the field, the rule and the value, or the column where JSON ends."""
    said = parse_line(line, Item)

    assert isinstance(said, str)
    assert re.search(reason, said), said


def test_parse_line_with_a_nested_mistake_names_the_path() -> None:
    """A mistake inside a list is found by its position."""
    reason = parse_line(b'{"items": [{"sku": "a", "quantity": 1}, {"sku": "b"}]}', Basket)

    assert reason == "items.1.quantity: Field required"


def test_pace_when_called_at_once_spreads_the_callers() -> None:
    """Ten callers a second go on a tenth of a second apart."""
    pace = Pace(rate=10)
    pace.reserve(100.0)
    waits = [pace.reserve(100.0) for _ in range(3)]

    assert waits == pytest.approx([0.0, 0.1, 0.2])


def test_pace_after_a_long_pause_makes_no_burst() -> None:
    """Time that nobody used is lost, but for a tenth of a second."""
    pace = Pace(rate=10)
    pace.reserve(100.0)
    waits = [pace.reserve(200.0) for _ in range(4)]

    assert waits == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_pace_without_a_rate_never_waits() -> None:
    """No rate means no waiting."""
    pace = Pace(rate=None)

    assert [pace.reserve(1.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 3.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_quantile_of_values_is_one_of_them(
    values: list[float], share: float, expected: float | None
) -> None:
    """A quantile is one of the values seen, and None of no values."""
    assert quantile(array("d", values), share) == expected


@pytest.mark.parametrize(
    "outcome", ["failed", "terminated", "timed out", "still running", "lost", "unreadable"]
)
def test_report_with_a_bad_outcome_is_not_ok(outcome: str) -> None:
    """A run is not successful when a workflow failed or is not final."""
    report = StartReport()
    report.outcomes[outcome] += 1

    assert not report.ok


def test_report_with_a_rejected_line_is_not_ok() -> None:
    """A run is not successful when a line was rejected."""
    report = StartReport()
    report.rejected.append(LineResult(line=1, status=LineStatus.REJECTED, reason="bad"))

    assert not report.ok


def test_report_with_business_outcomes_is_ok() -> None:
    """What a workflow calls its outcome does not make the run a failure."""
    report = StartReport()
    report.outcomes["compensated"] += 3

    assert report.ok
    assert report.summary()["outcomes"] == {"compensated": 3}


async def test_read_lines_of_a_file_yields_every_line(tmp_path: Path) -> None:
    """Lines come as they are, also a last one without its end."""
    file = tmp_path / "lines"
    file.write_bytes(b"a\n\nb")

    assert [line async for line in read_lines(file)] == [b"a\n", b"\n", b"b"]


async def test_read_lines_of_standard_input_yields_lines_before_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line that was piped in is there although the writer goes on."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stdin, os.fdopen(writing, "wb") as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        writer.write(b"first\n")
        writer.flush()
        lines = read_lines(None)
        first = await anext(lines)
        writer.write(b"second")
        writer.close()
        rest = [line async for line in lines]

    assert (first, rest) == (b"first\n", [b"second"])


async def test_read_lines_of_a_file_with_an_endless_line_keeps_the_others(tmp_path: Path) -> None:
    """A line above the limit is counted instead of held; the longest that may be, and the next, are whole."""
    longest, too_long = b"a" * (LONGEST_LINE - 1) + b"\n", b"b" * (3 * LONGEST_LINE) + b"\n"
    file = tmp_path / "lines"
    file.write_bytes(longest + too_long + b"next\n" + too_long[:-1])

    assert [line async for line in read_lines(file)] == [
        longest,
        TooLong(3 * LONGEST_LINE + 1),
        b"next\n",
        TooLong(3 * LONGEST_LINE),
    ]


@pytest.mark.parametrize(
    ("path", "reason"), [("/", "Is a directory"), ("/proc/self/mem", "Input/output error")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file that always fails")
async def test_read_lines_of_what_cannot_be_read_says_why(path: str, reason: str) -> None:
    """An error of reading is told with the file and its reason, before or in the midst of it."""
    with pytest.raises(FleetError, match=f"cannot read {path}: {reason}"):
        await anext(read_lines(Path(path)))


BASKET = WorkflowStart(workflow=Basket, model=Basket, workflow_id=str)


@pytest.mark.parametrize(
    ("start", "name", "said"),
    [
        (None, None, "does not say how to start"),
        (BASKET, "refund", "has no start named 'refund': its only one has no name"),
        ({"order": BASKET, "refund": BASKET}, None, "has several starts: order, refund"),
        (
            {"order": BASKET, "refund": BASKET},
            "refnd",
            "it has: order, refund.*Did you mean 'refund'",
        ),
    ],
)
def test_choose_start_that_is_not_there_names_those_that_are(
    start: WorkflowStart[Basket] | dict[str, WorkflowStart[Basket]] | None,
    name: str | None,
    said: str,
) -> None:
    """A wrong name, or none where there are several, is answered with the names."""
    with pytest.raises(WorkloadError, match=said):
        choose_start(Workload(name="shop", start=start), name)


def test_choose_start_without_a_name_is_the_only_one() -> None:
    """The name may be left out where there is one start, whether it has a name or not."""
    assert choose_start(Workload(name="shop", start=BASKET)) is BASKET
    assert choose_start(Workload(name="shop", start={"order": BASKET})) is BASKET
