"""The one way in which a process ends that may have loaded the SDK's core.

Threads of the core may touch the interpreter while it is torn down, which now and then ends an orderly exit
with SIGSEGV or SIGABRT. So the interpreter is never torn down; what would be lost by that is done here.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

from temporal_fleet.stop_signals import INTERRUPTED

EXIT_HOOKS_TIMEOUT = timedelta(seconds=2)
"""How long the functions registered with ``atexit`` may take together, for example to send a crash report."""


def leave(code: int) -> NoReturn:
    """End this process with *code*: run what ``atexit`` knows, flush the streams, and end.

    What takes longer than :data:`EXIT_HOOKS_TIMEOUT` is given up with a line on standard error.

    Args:
        code: The exit code; it stays the same whatever the ``atexit`` functions do.
    """
    done = threading.Event()
    bound = threading.Thread(target=_end_late, args=(done, code), name="exit-hooks", daemon=True)
    bound.start()
    with suppress(SystemExit):  # the interpreter reports every other exception of a function
        atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter itself would do; it has no public name
    done.set()
    _flush()
    os._exit(code)


def run_program(program: Callable[[], object]) -> NoReturn:
    """Run a whole program and :func:`leave`, with the exit code that the interpreter would have used.

    Args:
        program: Returns the exit code, None for 0; SystemExit and other exceptions count as usual.
    """
    try:
        code = program()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:  # noqa: BLE001 - whatever it is, this is where the program ends
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201 - sys.exit("text") does the same
        code = 1
    leave(code or 0)


def _end_late(done: threading.Event, code: int) -> None:
    if done.wait(EXIT_HOOKS_TIMEOUT.total_seconds()):
        return
    text = (
        f"exit hooks: a function registered with atexit still runs after "
        f"{EXIT_HOOKS_TIMEOUT.total_seconds():g} s, given up; exit {code}\n"
    )
    os.write(2, text.encode())  # not through a stream: the function that hangs may hold its lock
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it is gone, or it is closed
            stream.flush()
