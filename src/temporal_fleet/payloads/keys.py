"""The keys of the payloads: files of one directory, as Kubernetes mounts a Secret.

The name of a file is the ID of the key, its content the key in base64. A key never changes: whoever wants
another one adds it under another name. So keys are kept once read, and the directory is looked at again
only when a payload needs a key that is not there yet.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

import structlog

from temporal_fleet.errors import Problem, SettingsError

log = structlog.get_logger(__name__)

KEY_BYTES = 32
"""Length of a key: AES-256."""

_DIRECTORY = "FLEET_CODEC_KEYS_DIRECTORY"
_CURE = (
    "A key is 32 random bytes in base64, such as `openssl rand -base64 32` makes; "
    "the name of its file is its ID"
)


class KeyRing:
    """The keys of one directory, by ID.

    Attributes:
        directory: Where they come from.
    """

    def __init__(self, directory: Path) -> None:
        """Read the keys that are there now.

        Args:
            directory: The directory of the keys.

        Raises:
            SettingsError: It cannot be read, holds no key, or files in it hold something else; names all.
        """
        self.directory = directory
        self._keys, problems = _read(directory)
        if not problems and not self._keys:
            problems = [Problem(_DIRECTORY, f"there is no key in {directory}", cure=_CURE)]
        if problems:
            raise SettingsError(problems)
        self._reading = asyncio.Lock()

    @property
    def ids(self) -> list[str]:
        """IDs of the keys, sorted."""
        return sorted(self._keys)

    def get(self, key_id: str) -> bytes | None:
        """Return a key that has been read; None = it has not."""
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> bytes | None:
        """Return a key, and look for it in the directory when it has not been read.

        Files that hold no key are logged and passed over; None = the key is not there.
        """
        async with self._reading:
            if key_id not in self._keys:
                found, problems = await asyncio.to_thread(_read, self.directory)
                for problem in problems:
                    log.warning("a payload key cannot be used", problem=str(problem))
                new = found.keys() - self._keys.keys()
                self._keys = found | self._keys
                if new:
                    log.info("payload keys added", key_ids=sorted(new))
        return self._keys.get(key_id)


def _read(directory: Path) -> tuple[dict[str, bytes], list[Problem]]:
    keys: dict[str, bytes] = {}
    problems = []
    try:
        for file in _files(directory):
            key = _decoded(file)
            if isinstance(key, bytes):
                keys[file.name] = key
            else:
                problems.append(key)
    except OSError as error:
        reason = error.strerror or str(error)
        problems.append(Problem(_DIRECTORY, f"{directory} cannot be read: {reason}"))
    return keys, problems


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        # Kubernetes keeps the versions of a mounted Secret in folders that begin with two dots.
        if not path.name.startswith(".") and path.is_file():
            yield path


def _decoded(file: Path) -> bytes | Problem:
    """Return the key in *file*, or what is wrong with it, without a word of its content."""
    try:
        key = base64.b64decode(file.read_bytes().strip(), validate=True)
    except binascii.Error:
        return Problem(_DIRECTORY, f"{file} is not base64", cure=_CURE)
    except OSError as error:
        return Problem(_DIRECTORY, f"{file} cannot be read: {error.strerror}")
    if len(key) != KEY_BYTES:
        return Problem(_DIRECTORY, f"the key in {file} has {len(key)} bytes", cure=_CURE)
    return key
