"""What process 1 of a container owes to others: it reaps the processes that lost their parent.

A worker cannot do that itself without taking exit codes away from its own children, from the process pool, or
from ``subprocess`` in an activity. So process 1 becomes a small parent that reaps, and the worker is its child.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that process 1 passes on to the worker."""


def reap_as_process_1() -> None:
    """Return in a child, if this is process 1; it reaps, passes signals on, and ends as the child does.

    In any other process it does nothing. Call it before anything else: it forks, which threads do not survive.
    """
    if os.getpid() != 1:
        return
    # A signal that comes before its handler is there must not be lost, and process 1 ignores it by default.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    worker = os.fork()
    if worker == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(worker, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _reap_until_end_of(worker)


def _reap_until_end_of(worker: int) -> NoReturn:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            # Process 1 cannot end itself by a signal; shells and runtimes tell it as 128 + number.
            os._exit(code if code >= 0 else 128 - code)
