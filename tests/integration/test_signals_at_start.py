"""Signals that arrive while a command starts: real processes, stopped at many moments."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from written_workload import fleet_environment, write_workload

from temporal_fleet.errors import ExitCode
from temporal_fleet.stop_signals import INTERRUPTED

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which signals are handled"),
]

WORKER = ("worker", "greeting")
DEV = ("dev", "--headless", "--workload", "greeting")
DELAYS = (0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds after the first moment at which the command hears signals; what runs then does not matter."""


async def until_handled(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Wait until a process handles a signal; only the kernel knows, and it tells only who asks."""
    async with asyncio.timeout(60):
        while not _caught(process.pid) & 1 << (number - 1):
            await asyncio.sleep(0.001)


def _caught(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16)


async def stopped(
    arguments: tuple[str, ...], directory: Path, number: signal.Signals, delay: float
) -> tuple[int | None, str]:
    """Start a command and stop it; returns its exit code and output."""
    directory.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "temporal_fleet", *arguments),
        cwd=directory,
        env=fleet_environment(
            write_workload(directory / "site", "greeting").site,
            TEMPORAL_ADDRESS="127.0.0.1:1",
            FLEET_HEALTH_PORT="0",
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        # Taken after SIGINT, which Python itself handles from its own start.
        await until_handled(process, signal.SIGTERM)
        await asyncio.sleep(delay)
        process.send_signal(number)
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return process.returncode, output.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [WORKER, DEV])
async def test_signal_at_any_moment_of_a_start_ends_it_cleanly(
    arguments: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    """A worker and `fleet dev` that are told to stop while they start end with 0 and without a traceback."""
    for delay in DELAYS:
        code, output = await stopped(arguments, tmp_path / str(delay), number, delay)

        assert (code, "Traceback" in output) == (ExitCode.OK, False), (delay, output)


async def test_signals_are_heard_before_anything_beside_the_standard_library_is_imported() -> None:
    """The time without handlers is that of the interpreter alone."""
    program = (
        "import sys; before = set(sys.modules); import temporal_fleet.__main__\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()

    assert output.decode().split() == ["temporal_fleet"]


async def test_interrupt_while_another_command_is_imported_ends_it_without_a_traceback() -> None:
    """Ctrl-C before a command has begun gives 130 and nothing on the terminal."""
    program = (
        "import os, signal, sys\n"
        "from temporal_fleet.__main__ import main\n"
        "sys.argv = ['fleet', 'list']\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'click':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "main()\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert (process.returncode, output) == (INTERRUPTED, b"")
