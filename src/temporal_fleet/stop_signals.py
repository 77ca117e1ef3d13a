"""What a signal to stop does to a process that cannot handle it yet.

Imports take most of a start. A signal that arrives meanwhile would end the process with a traceback, or not at
all: as process 1 of a container, a process ignores every signal that it does not handle. So only the standard
library is imported here, and :mod:`temporal_fleet.__main__` uses this before it imports anything else.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop a worker; SIGHUP is none where it is ignored, as nohup wants it."""
    found = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


def end_at_once_on(numbers: Iterable[signal.Signals], code: int) -> None:
    """End this process silently when one of these signals arrives, until somebody else handles them.

    Args:
        numbers: The signals.
        code: Exit code.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(code)

    for number in numbers:
        signal.signal(number, end)
