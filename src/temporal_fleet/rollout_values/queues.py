"""What values say of task queues and their builds, and whether Helm would read the same."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from temporal_fleet.errors import ValuesFileError, ValuesRefusedError
from temporal_fleet.rollout_values.document import Document, Path

_EXAMPLES = {
    "queues": 'queues: {orders: {builds: {blue: {buildId: "1.4.0"}}}}',
    "builds": 'builds: {blue: {buildId: "1.4.0"}}',
    "routing": "routing: {current: blue}",
}
_SHOWN = 60
"""Characters of a wrong value that an error shows."""


def map_at(document: Document, path: Path) -> dict[str, Any]:
    """Return a map in the values; an empty one where there is nothing or null.

    Raises:
        ValuesFileError: Something else is there, or above it.
    """
    found: Any = document.data
    for depth, key in enumerate(path, 1):
        found = found.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            example = _EXAMPLES.get(key, f"{key}: {{…}}")
            raise ValuesFileError(
                f"{document.source}: {'.'.join(path[:depth])} is {repr(found)[:_SHOWN]}, which is not a "
                f"map. Write a map, such as {example}"
            )
    return dict(found)


def find_queue(document: Document, queue: str, prefix: Path = ()) -> Path:
    """Return the path of a task queue, which may be empty.

    Raises:
        ValuesRefusedError: It is not there.
        ValuesFileError: Something else than a map is where it or all of them should be.
    """
    queues = map_at(document, (*prefix, "queues"))
    if queue in queues:
        path = (*prefix, "queues", queue)
        map_at(document, path)
        return path
    close = difflib.get_close_matches(queue, queues, n=1)
    place = ".".join((*prefix, "queues"))
    cure = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(queues) or 'none'}."
    raise ValuesRefusedError(
        f"{document.source} has no task queue '{queue}' under {place}. {cure} For the values of a "
        "subchart, name its key with --path"
    )


def builds_at(document: Document, path: Path) -> dict[str, dict[str, Any]]:
    """Return the builds of a task queue; those that are switched off by null are left out.

    Raises:
        ValuesFileError: Something else than a map is there, or in the place of a build.
    """
    builds = map_at(document, (*path, "builds"))
    return {
        key: map_at(document, (*path, "builds", key))
        for key, each in builds.items()
        if each is not None
    }


def current_key(document: Document, path: Path, builds: Mapping[str, object]) -> str | None:
    """Return the key of the build that the values make current."""
    current = map_at(document, (*path, "routing")).get("current")
    if not current and len(builds) == 1:
        return next(iter(builds))
    return str(current) if current else None


def check_builds(document: Document, paths: Iterable[Path]) -> None:
    """Refuse builds that Helm reads otherwise than they are read here.

    Args:
        document: The values.
        paths: Where the task queues are.

    Raises:
        ValuesRefusedError: There are such builds; all are named.
        ValuesFileError: Something else than a map is where builds should be.
    """
    problems = [each for path in paths for each in _misread(document, path)]
    if problems:
        raise ValuesRefusedError("\n".join(problems))


def _misread(document: Document, path: Path) -> Iterator[str]:
    for key, build in builds_at(document, path).items():
        place = f"{document.source}: {'.'.join((*path, 'builds', key))}"
        build_id = build.get("buildId", "")
        # 1.10 would be 1.1.
        if not isinstance(build_id, str):
            yield (
                f"{place}.buildId is read as {build_id!r}, which is not text, and Helm would "
                "refuse it. Write it in quotes, and look whether it is still the build ID that you mean"
            )
        versioned = build.get("versioned", True)
        # Helm follows YAML 1.1, where a bare no is false; here it is the text 'no'.
        if not isinstance(versioned, bool):
            yield (
                f"{place}.versioned is read as {versioned!r}, which is not a boolean, and Helm may take it "
                "for one. Write true or false"
            )
