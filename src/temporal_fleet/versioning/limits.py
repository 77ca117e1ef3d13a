"""What the server and other people put in the way of a plan: the version cap and a manager."""

from __future__ import annotations

from collections.abc import Collection

from temporal_fleet.versioning.model import UNVERSIONED, BuildStatus, ObservedDeployment
from temporal_fleet.versioning.retirement import retirement_blockers

_NEAR_CAP = 0.9
"""Share of the cap from which on people are told."""

_LISTED_BUILDS = 10


def check_manager(observed: ObservedDeployment, identity: str | None) -> list[str]:
    """Return why somebody else's routing is left alone; empty when anybody, or *identity*, may change it."""
    manager = observed.manager_identity
    if not manager or manager == identity:
        return []
    return [
        f"'{manager}' manages the routing of Worker Deployment '{observed.deployment}', and only "
        "it may change it. Make the change there, or end that: temporal worker deployment "
        f"manager-identity unset --deployment-name {observed.deployment}"
    ]


def check_cap(observed: ObservedDeployment, wanted: Collection[str]) -> list[str]:
    """Return why builds that the server does not know yet cannot register, and which could make room.

    Args:
        observed: The Worker Deployment as it is.
        wanted: Build IDs whose workers are, or will be, running.
    """
    new = _unknown(observed, wanted)
    known = _known(observed)
    excess = len(known) + len(new) - observed.version_cap
    if not new or excess <= 0:
        return []
    names = ", ".join(f"'{build_id}'" for build_id in new)
    return [
        f"the server keeps {len(known)} versions of Worker Deployment '{observed.deployment}' and "
        f"takes {observed.version_cap} at most, so that the workers of {names} could not register. "
        f"{_what_can_go(observed, excess)}"
    ]


def note_cap(observed: ObservedDeployment, wanted: Collection[str]) -> list[str]:
    """Return a note when the server's cap is near."""
    total = len(_known(observed)) + len(_unknown(observed, wanted))
    if total < _NEAR_CAP * observed.version_cap:
        return []
    return [
        f"Worker Deployment '{observed.deployment}' is near the server's cap: {total} of "
        f"{observed.version_cap} versions. {_what_can_go(observed, 1)}"
    ]


def deletable_builds(observed: ObservedDeployment) -> tuple[str, ...]:
    """Return the build IDs whose records could be deleted now, those drained longest first."""
    found = [
        build
        for build in observed.builds.values()
        if build.status is BuildStatus.DRAINED and not retirement_blockers(observed, build)
    ]
    found.sort(
        key=lambda each: (each.drainage_changed is None, each.drainage_changed, each.build_id)
    )
    return tuple(build.build_id for build in found)


def _known(observed: ObservedDeployment) -> set[str]:
    return set(observed.builds) - {UNVERSIONED}


def _unknown(observed: ObservedDeployment, wanted: Collection[str]) -> list[str]:
    return sorted(set(wanted) - {UNVERSIONED} - _known(observed))


def _what_can_go(observed: ObservedDeployment, needed: int) -> str:
    candidates = deletable_builds(observed)
    if not candidates:
        return (
            "No build can be deleted now: each still has pollers or open runs, or is not drained. "
            "Remove the workers of drained builds, wait 5 minutes, then try fleet rollout retire"
        )
    names = ", ".join(candidates[:_LISTED_BUILDS])
    more = len(candidates) - _LISTED_BUILDS
    return (
        f"Delete at least {needed} of the drained builds ({names}"
        f"{f' and {more} more' if more > 0 else ''}): fleet rollout retire"
    )
