"""The ``fleet`` command from its first moment: it obeys signals before it imports anything that takes time."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from temporal_fleet.stop_signals import INTERRUPTED, end_at_once_on, stop_signals

_DRAINING = frozenset({"dev", "worker"})
"""Commands whose normal end is a signal."""


def main() -> NoReturn:
    """Run the command of this process's arguments and end with its exit code.

    A signal before a worker or ``fleet dev`` has begun anything ends it with exit code 0, as nothing is left to
    drain. Ctrl-C before any other command has begun ends that one with exit code 130.
    """
    arguments = sys.argv[1:]
    command = next((each for each in arguments if not each.startswith("-")), None)
    interrupt = signal.getsignal(signal.SIGINT)
    if command in _DRAINING:
        end_at_once_on(stop_signals(), 0)
    elif interrupt is not signal.SIG_IGN:
        end_at_once_on([signal.SIGINT], INTERRUPTED)

    from temporal_fleet.cli import main as fleet

    if command not in _DRAINING:
        signal.signal(signal.SIGINT, interrupt)
    fleet(arguments)


if __name__ == "__main__":
    main()
