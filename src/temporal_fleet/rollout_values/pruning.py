"""Removes builds from the values that nothing needs any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from temporal_fleet.rollout_values.document import Document, Path
from temporal_fleet.rollout_values.queues import (
    builds_at,
    check_builds,
    current_key,
    find_queue,
    map_at,
)
from temporal_fleet.versioning import BuildStatus, ObservedDeployment, needs


@dataclass(frozen=True)
class Candidate:
    """A build in the values that no routing names."""

    queue: str
    key: str
    build_id: str
    deployment: str
    path: Path
    is_versioned: bool = True


@dataclass(frozen=True)
class Kept:
    """A build that stays, and everything that speaks against removing it."""

    candidate: Candidate
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Pruned:
    """What became of the candidates."""

    removed: tuple[Candidate, ...]
    kept: tuple[Kept, ...]


def find_candidates(
    document: Document, queue: str | None = None, prefix: Path = ()
) -> list[Candidate]:
    """Return the builds that the routing in the values does not name.

    Args:
        document: The values.
        queue: Key of the only task queue to look at; None = all.
        prefix: Keys above ``queues``, such as the name of a subchart.

    Raises:
        ValuesRefusedError: The task queue is not there, or Helm reads a build otherwise than it is
            read here.
        ValuesFileError: Something other than a map is where task queues, builds or routing should be.
    """
    if queue is not None:
        paths = [find_queue(document, queue, prefix)]
    else:
        paths = [(*prefix, "queues", key) for key in map_at(document, (*prefix, "queues"))]
    check_builds(document, paths)
    return [each for path in paths for each in _unrouted(document, path)]


def prune_builds(
    document: Document,
    candidates: list[Candidate],
    observed: Mapping[str, ObservedDeployment],
) -> Pruned:
    """Remove the candidates that are drained; pollers are no obstacle, as they go with the entry.

    Args:
        document: The values; they are changed.
        candidates: What `find_candidates` returned.
        observed: By name of the Worker Deployment, that of each candidate.

    Raises:
        ValuesFileError: A place cannot be edited safely.
    """
    removed, kept = [], []
    for each in candidates:
        reasons = _obstacles(each, observed[each.deployment])
        if reasons:
            kept.append(Kept(each, reasons))
            continue
        removed.append(each)
    # From the end, since comments above the first build of all are taken for theirs together.
    for each in reversed(removed):
        document.remove(each.path)
    return Pruned(tuple(removed), tuple(kept))


def _unrouted(document: Document, path: Path) -> list[Candidate]:
    queue = path[-1]
    builds = builds_at(document, path)
    ramping = map_at(document, (*path, "routing")).get("ramping")
    # A key such as 2 is a number where it is named and text where builds are.
    named = {current_key(document, path, builds), str(ramping)}
    deployment = document.get((*path, "deploymentName")) or queue
    return [
        Candidate(
            queue=queue,
            key=key,
            build_id=str(build.get("buildId", "")),
            deployment=str(deployment),
            path=(*path, "builds", key),
            is_versioned=build.get("versioned", True) is not False,
        )
        for key, build in builds.items()
        if key not in named
    ]


def _obstacles(candidate: Candidate, observed: ObservedDeployment) -> tuple[str, ...]:
    if not candidate.is_versioned:
        return (
            "it is unversioned, and the server does not say when such workers are drained. Remove it "
            "by hand when fleet rollout status shows no open run without versioning",
        )
    build = observed.builds.get(candidate.build_id)
    if build is None:
        return (
            "the server does not know it: it was not installed yet, or its record was deleted. "
            "Remove it by hand in the latter case",
        )
    if found := needs(observed, candidate.build_id):
        return tuple(need.text for need in found)
    if build.status is BuildStatus.INACTIVE:
        return ("it never got new work, so it may be about to. Remove it by hand if not",)
    return ()
