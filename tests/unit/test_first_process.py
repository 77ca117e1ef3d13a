"""Process 1 of a container: it reaps, passes signals on, and ends as the worker does."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""Runs a program as process 1 of its own process namespace."""

pytestmark = pytest.mark.skipif(
    subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="a process namespace of its own needs root",
)

ORPHANS = """
import os, subprocess, sys, time
from temporal_fleet.worker.first_process import reap_as_process_1

reap_as_process_1()
assert os.getpid() != 1
for _ in range(5):
    own = subprocess.run(["sh", "-c", "sleep 0.1 & exit 3"])
    assert own.returncode == 3, own
deadline = time.monotonic() + 20
while (left := [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]):
    assert time.monotonic() < deadline, left
sys.exit(7)
"""

WAITS = """
import signal, sys
from temporal_fleet.worker.first_process import reap_as_process_1

reap_as_process_1()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_orphans_are_reaped_and_own_children_keep_their_exit_codes() -> None:
    """No zombie stays of programs that lost their parent, and nobody's exit code is taken away."""
    ended = subprocess.run(
        [*UNSHARE, sys.executable, "-c", ORPHANS],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ended.returncode == 7, ended.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 5), (signal.SIGUSR1, 128 + signal.SIGUSR1)]
)
def test_signals_reach_the_worker_and_its_end_is_that_of_the_container(
    number: signal.Signals, code: int
) -> None:
    """A signal to process 1 is one to the worker; the exit code is the worker's, 128 + N after a signal."""
    with subprocess.Popen(
        [*UNSHARE, sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True
    ) as outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == "ready\n"
        children = f"/proc/{outside.pid}/task/{outside.pid}/children"
        with open(children, encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
            [process_1] = [int(pid) for pid in file.read().split()]
        subprocess.run(["kill", f"-{number.value}", str(process_1)], check=True)

        assert outside.wait(timeout=50) == code
