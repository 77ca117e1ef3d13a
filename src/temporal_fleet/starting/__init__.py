"""Starts one workflow for each line of a JSONL file, as a workload declares it.

A line's workflow ID is always the same, so starting a file again goes on where it was interrupted
and repeats nothing. A bad line is reported and the rest goes on. Lines are read as they are needed:
neither the size of the file nor a slow pipe matters.
"""

from temporal_fleet.starting.choice import choose_start
from temporal_fleet.starting.lines import LineResult, LineStatus, StartReport
from temporal_fleet.starting.reading import read_lines
from temporal_fleet.starting.run import DEFAULT_CONCURRENCY, start_all

__all__ = [
    "DEFAULT_CONCURRENCY",
    "LineResult",
    "LineStatus",
    "StartReport",
    "choose_start",
    "read_lines",
    "start_all",
]
