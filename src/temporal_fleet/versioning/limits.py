"""What the server and other people put in the way of a plan: the version cap and a manager."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from temporal_fleet.versioning.model import UNVERSIONED, ObservedDeployment
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
    """Return why builds that the server does not know yet cannot register.

    At its cap the server makes room by itself: it deletes the oldest build that is drained or inactive and
    that no worker polls. So only what cannot be deleted is in the way.

    Args:
        observed: The Worker Deployment as it is.
        wanted: Build IDs whose workers are, or will be, running.
    """
    excess = _excess(observed, wanted)
    # A wanted build that is deleted would register again, and need room again.
    room = [each for each in deletable_builds(observed) if each not in wanted]
    if excess <= len(room):
        return []
    names = ", ".join(f"'{build_id}'" for build_id in _unknown(observed, wanted))
    found = f"No build but {_listed(room)}" if room else "No build"
    return [
        f"the server keeps {len(_known(observed))} versions of Worker Deployment "
        f"'{observed.deployment}' and takes {observed.version_cap} at most, so that the workers of "
        f"{names} could not register. {found} can be deleted now: each still has pollers or open "
        "runs, or is not drained. Remove the workers of drained builds, wait 5 minutes, then try again"
    ]


def note_cap(observed: ObservedDeployment, wanted: Collection[str]) -> list[str]:
    """Return a note when the server's cap is near, or when the server will have to make room."""
    total = len(_known(observed)) + len(_unknown(observed, wanted))
    if total < _NEAR_CAP * observed.version_cap:
        return []
    name, cap = f"Worker Deployment '{observed.deployment}'", observed.version_cap
    candidates = deletable_builds(observed)
    if _excess(observed, wanted) > 0:
        return [
            f"{name} would have {total} versions, and the server takes {cap} at most. It makes room by "
            "itself: it deletes its record of the oldest build that is drained or inactive and that "
            f"no worker polls ({_listed(candidates)})"
        ]
    what = f"{name} is near the server's cap: {total} of {cap} versions"
    if not candidates:
        return [f"{what}, and no build can be deleted now: each has pollers, runs or new work"]
    return [f"{what}. Could be deleted ({_listed(candidates)}): fleet rollout retire"]


def deletable_builds(observed: ObservedDeployment) -> tuple[str, ...]:
    """Return the build IDs whose records could be deleted now, those unused longest first."""
    found = [
        (build.drainage_changed or build.created, build.build_id)
        for build in observed.builds.values()
        if build.build_id != UNVERSIONED and not retirement_blockers(observed, build)
    ]
    found.sort(key=lambda each: (each[0] is None, each))
    return tuple(build_id for _, build_id in found)


def _known(observed: ObservedDeployment) -> set[str]:
    return set(observed.builds) - {UNVERSIONED}


def _unknown(observed: ObservedDeployment, wanted: Collection[str]) -> list[str]:
    return sorted(set(wanted) - {UNVERSIONED} - _known(observed))


def _excess(observed: ObservedDeployment, wanted: Collection[str]) -> int:
    """Return how many records must go before all wanted builds can register."""
    new = len(_unknown(observed, wanted))
    return max(len(_known(observed)) + new - observed.version_cap, 0) if new else 0


def _listed(build_ids: Sequence[str]) -> str:
    more = len(build_ids) - _LISTED_BUILDS
    return ", ".join(build_ids[:_LISTED_BUILDS]) + (f" and {more} more" if more > 0 else "")
