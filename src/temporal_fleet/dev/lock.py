"""Says whose server runs in a directory, and keeps a second one out of it and off its ports."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from temporal_fleet.errors import FleetError

DEFAULT_DIRECTORY = Path(".fleet")
"""Where the database, the log and the lock live, below the current directory."""

_LOCK = "server.lock"


class AlreadyRunningError(FleetError):
    """Another process runs an embedded server in the same directory."""


@contextmanager
def exclusive(directory: Path) -> Iterator[IO[str]]:
    """Hold the lock of a directory; the kernel lets go of it however this process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(_who_runs(lock, directory)) from None
        lock.truncate(0)
        json.dump({"pid": os.getpid()}, lock)
        lock.flush()
        yield lock
        lock.truncate(0)


def announce(lock: IO[str], address: str, ui_url: str | None) -> None:
    """Write into a lock that is held where the server is."""
    lock.truncate(0)
    json.dump({"pid": os.getpid(), "address": address, "ui": ui_url}, lock)
    lock.flush()


@contextmanager
def claimed(port: int) -> Iterator[bool]:
    """Keep other servers of this user that are being started off a port.

    A port that was found to be free is taken only seconds later, when the server listens: two servers that
    start together would both find it free, and one of them would take the other's for its own.

    Yields:
        Whether the port is ours; False = another process has claimed it.
    """
    path = Path(tempfile.gettempdir(), f"temporal-fleet-{os.getuid()}-port-{port}.lock")
    # A link that somebody else has put there is not followed.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def running_server(directory: Path = DEFAULT_DIRECTORY) -> str | None:
    """Return the address of the server that runs in a directory; None when none does."""
    try:
        lock = (directory / _LOCK).open()
    except OSError:
        return None
    with lock:
        try:
            # What a server that was killed wrote is still there, but its lock is not.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            address = _read(lock).get("address")
            return None if address is None else str(address)
    return None


def _who_runs(lock: IO[str], directory: Path) -> str:
    lock.seek(0)
    holder = _read(lock)
    place = directory.resolve()
    text = f"a Temporal server already runs in {place}, started by process {holder.get('pid', '?')}"
    if address := holder.get("address"):
        text += f" (server {address}, UI {holder.get('ui') or 'off'})"
        text += f". Use it with --server {address},"
    else:
        text += ". Wait for it,"
    return f"{text} or stop that process, or start in another directory"


def _read(lock: IO[str]) -> dict[str, Any]:
    with suppress(json.JSONDecodeError):  # it may be about to write
        return dict(json.load(lock))
    return {}
