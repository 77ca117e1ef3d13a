"""Where the source of the workloads is, which change belongs to whom, and what they all import."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from importlib.metadata import EntryPoint, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from temporal_fleet.errors import FleetError

_DEBOUNCE_MS = 300
_STEP_MS = 40
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def source_directory(module: str) -> Path | None:
    """Return the directory of a top-level package or module, without importing it; None when unknown."""
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None


def third_party_modules(entries: Iterable[EntryPoint]) -> list[str]:
    """Return the top-level modules of what the workloads' distributions require directly.

    Left out is what belongs to a workload, as its code is what changes.
    """
    entries = list(entries)
    own = {_normal(entry.dist.name) for entry in entries if entry.dist}
    required: set[str] = set()
    for entry in entries:
        for requirement in (entry.dist.requires if entry.dist else None) or ():
            name = _NAME.match(requirement)
            if name and "extra ==" not in requirement:
                required.add(_normal(name.group()))
    required -= own | {"temporal-fleet"}
    return sorted(
        module
        for module, distributions in packages_distributions().items()
        if module.isidentifier() and any(_normal(each) in required for each in distributions)
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


async def changes(directories: Mapping[str, Path]) -> AsyncIterator[dict[str, list[Path]]]:
    """Yield which files have changed, whenever some have.

    Args:
        directories: What is watched, by name; one may lie inside another.

    Yields:
        The changed files of each directory that has any, relative to it.

    Raises:
        FleetError: When watchfiles is not installed.
    """
    try:
        from watchfiles import awatch
    except ImportError as error:
        raise FleetError(
            "watchfiles is not installed, so changes cannot be seen. Install it: "
            "pip install 'temporal-fleet[dev]'; or run without: fleet dev --no-reload"
        ) from error

    async for batch in awatch(
        *set(directories.values()), debounce=_DEBOUNCE_MS, step=_STEP_MS, rust_timeout=1000
    ):
        if found := assign([Path(path) for _, path in batch], directories):
            yield found


def assign(files: Iterable[Path], directories: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Return for each name the files below its directory, relative to it and sorted."""
    found: dict[str, list[Path]] = {}
    for file in sorted({file.resolve() for file in files}):
        for name, directory in directories.items():
            if file == directory:
                found.setdefault(name, []).append(Path(file.name))
            elif file.is_relative_to(directory):
                found.setdefault(name, []).append(file.relative_to(directory))
    return found
