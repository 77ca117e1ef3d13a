"""How a process ends that may have loaded the SDK's core."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(source: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=50, check=False
    )


def test_exit_hooks_run_and_buffers_are_flushed() -> None:
    """What a crash reporter registered with atexit gets its chance, and no output is lost."""
    ended = python(
        "import atexit, sys\n"
        "from temporal_fleet.leaving import leave\n"
        "atexit.register(print, 'reported')\n"
        "sys.stdout.write('buffered ')\n"
        "leave(7)\n"
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "buffered reported\n", "")


def test_command_runs_exit_hooks() -> None:
    """The fleet command ends in this way, too."""
    ended = python(
        "import atexit\n"
        "from temporal_fleet.cli import main\n"
        "atexit.register(print, 'reported')\n"
        "main(['completion', '--help'])\n"
    )

    assert ended.returncode == 0
    assert ended.stdout.endswith("reported\n")


def test_exit_hook_that_hangs_is_given_up() -> None:
    """The end is bounded: a function that hangs is told with its timeout, and the exit code stays."""
    ended = python(
        "import atexit, threading\n"
        "from temporal_fleet.leaving import leave\n"
        "atexit.register(threading.Event().wait)\n"
        "leave(7)\n"
    )

    assert ended.returncode == 7
    assert "still runs after 2 s, given up; exit 7" in ended.stderr


def test_exit_hook_that_fails_is_told() -> None:
    """An exception of one function is on standard error and keeps no other from running."""
    ended = python(
        "import atexit\n"
        "from temporal_fleet.leaving import leave\n"
        "atexit.register(print, 'reported')\n"
        "atexit.register(int, 'seven')\n"
        "leave(7)\n"
    )

    assert (ended.returncode, ended.stdout) == (7, "reported\n")
    assert "invalid literal for int()" in ended.stderr


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("lambda: 3", 3, ""),
        ("lambda: None", 0, ""),
        ("lambda: sys.exit(4)", 4, ""),
        ("lambda: sys.exit('no server')", 1, "no server\n"),
        ("lambda: 1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_program_ends_with_the_code_that_the_interpreter_would_use(
    program: str, code: int, told: str
) -> None:
    """Results, sys.exit() and exceptions of a program mean what they always mean."""
    ended = python(
        f"import sys\nfrom temporal_fleet.leaving import run_program\nrun_program({program})\n"
    )

    assert ended.returncode == code
    assert told in ended.stderr
