"""Prints what several processes write, each line with the name of its workload."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_COLORS = (
    36,
    35,
    33,
    32,
    34,
    96,
    95,
    93,
)  # Source: ECMA-48, foreground colours that both themes show
_OURSELVES = "fleet"


class Terminal:
    """Standard output, shared by several processes.

    Args:
        names: Of the workloads.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Source: https://no-color.org
        self._colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._width = max(len(name) for name in (*names, _OURSELVES))
        self._colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(names)}

    def say(self, text: str) -> None:
        """Print a line of ours."""
        self.print_line(_OURSELVES, text)

    def print_line(self, name: str, line: str) -> None:
        """Print a line that the process of a workload wrote."""
        prefix = f"{name:<{self._width}} │"
        if self._colored:
            prefix = f"\x1b[{self._colors.get(name, 1)}m{prefix}\x1b[0m"
        sys.stdout.write(f"{prefix} {line.rstrip()}\n")
        sys.stdout.flush()
