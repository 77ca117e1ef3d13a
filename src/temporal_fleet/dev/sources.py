"""Where the source of the workloads is, which change belongs to whom, and what they all import."""

from __future__ import annotations

import json
import re
import site
import sysconfig
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import (
    Distribution,
    EntryPoint,
    PackageNotFoundError,
    packages_distributions,
)
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from temporal_fleet.errors import FleetError

_DEBOUNCE_MS = 300
_STEP_MS = 40
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def source_directory(module: str) -> Path | None:
    """Return where a package or module is, without importing its code; None when unknown.

    Args:
        module: Its whole name. The directory is that of its outermost package; of a namespace package,
            which others share, that of what belongs to this module.
    """
    parts = module.split(".")
    spec = None
    for length in range(1, len(parts) + 1):
        spec = find_spec(".".join(parts[:length]))
        if spec is None or spec.has_location:
            break
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        origin = Path(spec.origin).resolve()
        return origin.parent if spec.submodule_search_locations is not None else origin
    locations = list(spec.submodule_search_locations or ())
    return Path(locations[0]).resolve() if locations else None


def is_installed_copy(path: Path) -> bool:
    """Return whether *path* is where installers put copies, which nobody edits."""
    places = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("stdlib")]
    return any(path.is_relative_to(Path(place).resolve()) for place in places)


def sources_of(entry: EntryPoint, modules: Mapping[str, Sequence[str]]) -> list[Path]:
    """Return what is watched for a workload: its own source, then that of local libraries it requires.

    Args:
        entry: The workload.
        modules: The top-level modules of all distributions, from :func:`modules_by_distribution`.
    """
    found = [source_directory(entry.module)]
    for distribution in _requirements(entry):
        found += _local_sources(distribution, modules)
    return list(dict.fromkeys(path for path in found if path is not None))


def unwatched(entry: EntryPoint) -> list[str]:
    """Return what to say about a workload and its libraries that are local, but installed as copies."""
    own = source_directory(entry.module)
    copies: list[tuple[str, str | None]] = [
        (each.name, directory) for each in _requirements(entry) if (directory := _copied_from(each))
    ]
    if own is not None and is_installed_copy(own):
        copies.insert(0, (entry.name, _copied_from(entry.dist) if entry.dist else None))
    return [
        f"{name} is installed as a copy, so changes of its source are not seen. "
        f"Install it editable: pip install -e {directory or 'DIRECTORY'}"
        for name, directory in copies
    ]


def third_party_modules(entries: Iterable[EntryPoint]) -> list[str]:
    """Return the top-level modules of what the workloads' distributions require directly.

    Left out is what belongs to a workload or a local library, as their code is what changes.
    """
    entries = list(entries)
    own = {_normal(entry.dist.name) for entry in entries if entry.dist}
    required = {
        name for entry in entries if entry.dist for name in _required_names(entry.dist)
    } - own
    return sorted(
        module
        for name, modules in modules_by_distribution().items()
        if name in required
        for module in modules
        if (source := source_directory(module)) is None or is_installed_copy(source)
    )


def modules_by_distribution() -> dict[str, list[str]]:
    """Return the top-level modules of everything installed, by the normalised name of its distribution."""
    found: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions if module.isidentifier() else ():
            found.setdefault(_normal(name), []).append(module)
    return found


def _requirements(entry: EntryPoint) -> list[Distribution]:
    """Return the distributions that a workload requires, directly or not, without temporal-fleet."""
    found: dict[str, Distribution] = {}
    waiting = _required_names(entry.dist) if entry.dist else []
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        # One that is missing is told by the worker that cannot import it.
        with suppress(PackageNotFoundError):
            found[name] = Distribution.from_name(name)
            waiting += _required_names(found[name])
    return list(found.values())


def _required_names(distribution: Distribution) -> list[str]:
    names = [
        _normal(name.group())
        for requirement in distribution.requires or ()
        if (name := _NAME.match(requirement)) and "extra ==" not in requirement
    ]
    return [name for name in names if name != "temporal-fleet"]


def _local_sources(distribution: Distribution, modules: Mapping[str, Sequence[str]]) -> list[Path]:
    name = _normal(distribution.name)
    names = modules.get(name, [name.replace("-", "_")])
    found = [source_directory(each) for each in names]
    # An editable installation may list no module, but only where Python shall look for them.
    found += [
        Path(line)
        for file in distribution.files or ()
        if file.suffix == ".pth"
        for line in file.read_text().splitlines()
        if Path(line).is_dir()
    ]
    return [path for path in found if path is not None and not is_installed_copy(path)]


def _copied_from(distribution: Distribution) -> str | None:
    """Return the local directory that a distribution was copied from; None when there is none."""
    # Source: https://packaging.python.org/en/latest/specifications/direct-url/
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    url, details = origin.get("url", ""), origin.get("dir_info")
    if details is None or details.get("editable") or not url.startswith("file:"):
        return None
    return url2pathname(urlsplit(url).path)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def require_watching() -> None:
    """Make sure that changes can be seen.

    Raises:
        FleetError: When watchfiles is not installed.
    """
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise FleetError(
            "watchfiles is not installed, so changes cannot be seen. Install it: "
            "pip install 'temporal-fleet[dev]'; or run without: fleet dev --no-reload"
        ) from error


async def changes(sources: Mapping[str, Sequence[Path]]) -> AsyncIterator[dict[str, list[Path]]]:
    """Yield which files have changed, whenever some have.

    Args:
        sources: Directories and files that are watched, by name; one may lie inside another, and be
            that of several names.

    Yields:
        The changed files of each name that has any, as :func:`assign` shows them.
    """
    from watchfiles import awatch

    async for batch in awatch(
        *{path for paths in sources.values() for path in paths},
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=1000,
    ):
        if found := assign([Path(path) for _, path in batch], sources):
            yield found


def assign(files: Iterable[Path], sources: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """Return for each name its changed files, sorted.

    A file is shown relative to the first source of its name, which is its own, or with the name of
    another one. Left out is what lies in hidden directories, such as the database of our server.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted({file.resolve() for file in files}):
        for name, paths in sources.items():
            shown = (_shown(file, path, is_own=path == paths[0]) for path in paths)
            if first := next((each for each in shown if each), None):
                found.setdefault(name, []).append(first)
    return found


def _shown(file: Path, source: Path, *, is_own: bool) -> Path | None:
    if file == source:
        return Path(file.name)
    if not file.is_relative_to(source):
        return None
    inside = file.relative_to(source)
    if any(part.startswith(".") for part in inside.parts[:-1]):
        return None
    return inside if is_own else source.name / inside
