"""A process that has imported what every worker needs, and makes workers by forking itself.

Importing takes most of a worker's start; a fork of a process that did it already starts in
milliseconds. A fork runs ``fleet worker`` like any other process. Forking is safe only while there is
one thread, so a template that finds more says that it is unfit. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from temporal_fleet.dev.kept_sources import keep_sources
from temporal_fleet.errors import ExitCode
from temporal_fleet.stop_signals import end_at_once_on, stop_signals

PRELOADED = (
    "temporalio.contrib.pydantic",
    "temporal_fleet.cli",
    "temporal_fleet.worker.process",
    "temporal_fleet.registration",
)
"""What every worker imports."""

_LONGEST_MESSAGE = 1 << 17
_PR_SET_PDEATHSIG = 1  # Source: <linux/prctl.h>


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Import, then serve requests for forks until the other end of the socket is closed.

    Args:
        descriptor: A SOCK_SEQPACKET socket; each request is a JSON object with ``arguments`` and
            ``environment`` (what differs; null removes), and carries the descriptor for output.
        modules: What to import beside :data:`PRELOADED`; one that cannot be imported is left to the
            worker that needs it, which tells why.
    """
    _end_with(os.getppid(), signal.SIGKILL)
    control = socket.socket(fileno=descriptor)
    for name in PRELOADED:
        importlib.import_module(name)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        _send(control, {"unfit": f"{threads} threads run after importing {', '.join(modules)}"})
        return
    # What all forks share must not be copied just because a collection writes its marks into it.
    gc.collect()
    gc.freeze()
    _send(control, {"ready": True})
    _serve(control)


def _serve(control: socket.socket) -> None:
    waker, wakened = socket.socketpair()
    waker.setblocking(False)
    wakened.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakened, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wakened:
                    wakened.recv(1024)
                    _reap(control)
                elif not _answer(control, (waker, wakened)):
                    return


def _answer(control: socket.socket, ours: Sequence[socket.socket]) -> bool:
    data, descriptors, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE, 1)
    if not data:
        return False
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        for end in (control, *ours):
            end.detach()
        _become_worker(json.loads(data), descriptors[0], parent)
    os.close(descriptors[0])
    _send(control, {"started": child})
    return True


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            _send(control, {"exited": child, "code": os.waitstatus_to_exitcode(status)})


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _become_worker(request: dict[str, Any], output: int, parent: int) -> NoReturn:
    """Run the ``fleet`` command in this fork; the process ends with it."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device, not a path
            os.dup2(nothing.fileno(), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Sockets of the template must not live on in its forks.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _end_with(parent, signal.SIGTERM)
        for name, value in request["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        run_fleet(request["arguments"])
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not return to serve
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def run_fleet(arguments: Sequence[str]) -> NoReturn:
    """Run the ``fleet`` command with the code that is there now, whatever its files become."""
    # Bytecode is matched by size and whole seconds: a second save within a second is missed.
    sys.dont_write_bytecode = True
    end_at_once_on(stop_signals(), ExitCode.OK)
    keep_sources()
    sys.argv = ["fleet", *arguments]

    from temporal_fleet.cli import main as fleet

    fleet(arguments)


def _end_with(parent: int, number: signal.Signals) -> None:
    """Get a signal when the parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
