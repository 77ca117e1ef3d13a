"""Tables for people."""

from __future__ import annotations

import pytest
from rich.console import Console

from temporal_fleet.output import fitting_table

COLUMNS = ("NAME", "STATUS", "BACKLOG", "AGE")
ROWS = [("53e6e2e49ab0-2", "current", 12, "2 min 5 s")]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "NAME            STATUS   BACKLOG  AGE"),
        (36, "NAME            STATUS   BACKLOG"),
        (28, "NAME            STATUS"),
    ],
)
def test_table_in_a_narrow_terminal_leaves_out_columns_instead_of_breaking_words(
    width: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The least important columns go first, and what stays is whole."""
    made = fitting_table(COLUMNS, ROWS, right=("BACKLOG",), less=("AGE", "BACKLOG"), width=width)
    Console(width=width).print(made)

    heading, row = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert heading == shown
    assert row.startswith("53e6e2e49ab0-2  current")
