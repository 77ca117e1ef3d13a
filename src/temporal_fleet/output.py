"""What commands print: tables for people, JSON for programs, progress for people who wait.

Results go to standard output, everything else to standard error, so that results can be piped. The
library rich is loaded only when something is drawn: a worker never does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_WIDTH_OF_PIPES = 160
_UNLIMITED = 10_000
_LINE_INTERVAL = timedelta(seconds=3)
_REDRAWS_PER_SECOND = 10


def console(*, stderr: bool = False) -> Console:
    """Return a console; into a pipe it writes wide lines without colours.

    Args:
        stderr: Write to standard error instead of standard output.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_OF_PIPES
    return Console(stderr=stderr, width=width, highlight=False)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[str] = (),
    wraps: bool = True,
) -> Table:
    """Return a table without frames.

    Args:
        columns: Headings.
        rows: Cells, each shown as its text; None is shown as a dash.
        right: Headings of the columns that hold numbers.
        wraps: Whether cells are broken into several lines where the table would be too wide.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold" if wraps else "ellipsis",
            no_wrap=not wraps,
        )
    for row in rows:
        # Text, since brackets in data are not markup.
        cells = ("-" if cell is None else cell for cell in row)
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))
    return made


def fitting_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[str] = (),
    less: Sequence[str] = (),
    width: int,
) -> Table:
    """Return a table whose cells are whole, without the columns that there is no room for.

    Args:
        columns: Headings.
        rows: Cells, as for `table`.
        right: Headings of the columns that hold numbers.
        less: Headings of the columns that may be left out, the least important first.
        width: Characters that there is room for.
    """
    from rich.console import Console
    from rich.measure import Measurement

    def without(names: Sequence[str]) -> Table:
        kept = [at for at, name in enumerate(columns) if name not in names]
        cells = [[row[at] for at in kept] for row in rows]
        return table([columns[at] for at in kept], cells, right=right, wraps=False)

    room = Console(width=_UNLIMITED)
    choices = [without(less[:count]) for count in range(len(less) + 1)]
    fitting = (
        each for each in choices if Measurement.get(room, room.options, each).maximum <= width
    )
    return next(fitting, choices[-1])


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON on standard output.

    Args:
        value: Dataclasses, pydantic models, durations (as seconds) and enums may be anywhere in it.
        indent: Spaces per level; None = all in one line.
    """
    text = json.dumps(value, default=_jsonable, indent=indent, ensure_ascii=False)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _jsonable(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 6)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def short_duration(duration: timedelta | None) -> str:
    """Return a duration for people: ``12 ms``, ``3.4 s``, ``2 min 5 s``, ``3 h 2 min``."""
    if duration is None:
        return "-"
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


@contextmanager
def live(draw: Callable[[], RenderableType]) -> Iterator[Callable[[], None]]:
    """Keep a drawing up to date on standard output; yields what draws it anew."""
    from rich.live import Live

    with Live(draw(), console=console(), auto_refresh=False) as screen:
        yield lambda: screen.update(draw(), refresh=True)


class ProgressLine:
    """Progress on standard error: a bar in a terminal, else a line every few seconds.

    Args:
        total: What ``update`` counts up to; None when nobody knows.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()

    def __enter__(self) -> ProgressLine:
        """Begin to draw."""
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                BarColumn(bar_width=30),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=console(stderr=True),
                refresh_per_second=_REDRAWS_PER_SECOND,
            )
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, text: str) -> None:
        """Show how much is done, and what is to be said about it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text)
        elif time.monotonic() - self._last_line >= _LINE_INTERVAL.total_seconds():
            self._last_line = time.monotonic()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
