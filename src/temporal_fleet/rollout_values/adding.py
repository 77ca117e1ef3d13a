"""Adds a build to the values of a task queue, and routes new work to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from temporal_fleet.errors import ValuesRefusedError
from temporal_fleet.rollout_values.document import Document, Path
from temporal_fleet.rollout_values.queues import builds_at, check_builds, current_key, find_queue

SLOTS = ("blue", "green")
"""Keys between which releases alternate where a task queue uses them."""

_KEY = re.compile(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?")
_BUILD_ID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LONGEST_KEY = 20
_HASH_LENGTH = 6

_OWN_WORDS = ("buildId", "image", "versioned")


@dataclass(frozen=True)
class NewBuild:
    """A build that is to get new work."""

    queue: str
    """Key of the task queue in the values."""
    build_id: str
    key: str | None = None
    """Key of the build; None = a free one."""
    percentage: float = 10
    """Share of new work; without meaning when it is to be current."""
    is_current: bool = False
    """Whether it is to be current at once, without a ramp."""
    image_tag: str | None = None
    """Tag of its image; None = the build ID."""
    image_digest: str | None = None


def add_build(document: Document, new: NewBuild, prefix: Path = ()) -> list[str]:
    """Add a build, unless it is there, and route new work to it.

    Args:
        document: The values.
        new: The build.
        prefix: Keys above ``queues``, such as the name of a subchart.

    Returns:
        What was done, and what people should look at; one line each.

    Raises:
        ValuesRefusedError: The task queue is not there, the key is taken or not possible, no slot is
            free, or the build would replace the current one unasked; nothing was changed.
        ValuesFileError: The place cannot be edited safely.
    """
    path = find_queue(document, new.queue, prefix)
    _check_words(new)
    check_builds(document, [path])
    builds = builds_at(document, path)
    current = current_key(document, path, builds)
    _check_current(document, path, new, builds)
    key = _choose_key(new, builds, _named(document, path))
    if current == key and not new.is_current:
        raise ValuesRefusedError(
            f"build '{key}' is current of '{new.queue}' already, so it cannot ramp"
        )
    told = []
    if key not in builds:
        document.set((*path, "builds", key), _entry(new))
        told.append(f"added build '{key}' with build ID '{new.build_id}' to '{new.queue}'")
        told.extend(_note_overrides(current, key, builds))
        told.extend(_note_other_files(current, key, new, builds))
    if new.is_current or current is None:
        routing = _make_current(document, path, key, new)
    else:
        routing = _ramp(document, path, key, current, new)
    return told + routing or [f"'{new.queue}' is like this already"]


def _check_current(
    document: Document, path: Path, new: NewBuild, builds: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to ramp beside an unknown build: Temporal would have no other to share work with."""
    if new.is_current or document.get((*path, "routing", "current")):
        return
    # A build without a build ID only adds to one that another file has.
    if len(builds) == 1 and all(each.get("buildId") for each in builds.values()):
        return
    place = ".".join(path)
    has = f"the builds {', '.join(builds)}" if builds else "no builds"
    raise ValuesRefusedError(
        f"{document.source} names no current build of '{new.queue}': {place} has {has} and no "
        f"routing.current, so build ID '{new.build_id}' has no current build to share work with at "
        f"{new.percentage:g} %. If another values file names the current build, edit that file; "
        f"otherwise name it in {place}.routing.current. If '{new.build_id}' is the first build, or is to "
        "get all new work at once, pass --current, and --key with a key that no other values file uses"
    )


def _named(document: Document, path: Path) -> set[str]:
    """Return the keys that the routing names; where they are not in this file, another has them."""
    named = (document.get((*path, "routing", word)) for word in ("current", "ramping"))
    return {str(each) for each in named if each}


def _check_words(new: NewBuild) -> None:
    if not _BUILD_ID.fullmatch(new.build_id):
        raise ValuesRefusedError(
            f"build ID '{new.build_id}' is not possible: use 1 to 63 letters, digits, '-', '_' and "
            "'.', with a letter or digit at both ends, since it becomes a label"
        )
    if new.key is not None and not _KEY.fullmatch(new.key):
        raise ValuesRefusedError(
            f"key '{new.key}' is not possible: use at most {_LONGEST_KEY} of a-z, 0-9 and '-', "
            "since it becomes part of names"
        )


def _choose_key(
    new: NewBuild, builds: Mapping[str, Mapping[str, Any]], named: Collection[str]
) -> str:
    """Return the key that holds the build, or a free one for it that the routing does not name."""
    holders = {str(each.get("buildId")): key for key, each in builds.items()}
    holder = holders.get(new.build_id)
    if holder is not None:
        if new.key in (None, holder):
            return holder
        raise ValuesRefusedError(
            f"build ID '{new.build_id}' is build '{holder}' of '{new.queue}' already. Leave --key out"
        )
    if new.key is None:
        return _free_key(new, {**{key: {} for key in named}, **builds})
    if new.key in builds:
        raise ValuesRefusedError(
            f"key '{new.key}' of '{new.queue}' holds build ID '{builds[new.key].get('buildId')}', "
            "whose workers would be replaced. Remove it when it is drained (fleet rollout prune), "
            "or name another key"
        )
    return new.key


def _free_key(new: NewBuild, builds: Mapping[str, Mapping[str, Any]]) -> str:
    if not builds or set(SLOTS) & set(builds):
        free = next((slot for slot in SLOTS if slot not in builds), None)
        if free is not None:
            return free
        held = ", ".join(f"{slot} ({builds[slot].get('buildId')})" for slot in SLOTS)
        raise ValuesRefusedError(
            f"'{new.queue}' has no free slot: {held}. Remove the drained one (fleet rollout prune), "
            "or name a further key with --key"
        )
    slug = re.sub("[^a-z0-9]+", "-", new.build_id.lower()).strip("-")
    if _KEY.fullmatch(slug) and slug not in builds:
        return slug
    tail = hashlib.sha256(new.build_id.encode()).hexdigest()[:_HASH_LENGTH]
    head = slug[: _LONGEST_KEY - _HASH_LENGTH - 1].strip("-")
    return f"{head}-{tail}" if head else tail


def _entry(new: NewBuild) -> dict[str, Any]:
    image = {"tag": new.image_tag, "digest": new.image_digest}
    image = {key: each for key, each in image.items() if each is not None}
    return {"buildId": new.build_id, **({"image": image} if image else {})}


def _note_overrides(
    current: str | None, key: str, builds: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    model = current if current in builds else next(iter(builds), None)
    own = [word for word in builds[model] if word not in _OWN_WORDS] if model else []
    if not own:
        return []
    return [
        f"look: build '{model}' has values of its own that '{key}' does not have: {', '.join(own)}"
    ]


def _note_other_files(
    current: str | None, key: str, new: NewBuild, builds: Mapping[str, object]
) -> list[str]:
    if builds and (current is None or current in builds):
        return []
    return [
        f"look: if another values file has a build '{key}' of '{new.queue}', this one replaces it; "
        "choose another key with --key then"
    ]


def _make_current(document: Document, path: Path, key: str, new: NewBuild) -> list[str]:
    routing = (*path, "routing")
    before = document.text
    document.set((*routing, "current"), key)
    if document.get((*routing, "ramping")):
        document.set((*routing, "ramping"), "")
    if document.get((*routing, "percentage")):
        document.set((*routing, "percentage"), 0)
    return [f"made '{key}' current of '{new.queue}'"] if document.text != before else []


def _ramp(document: Document, path: Path, key: str, current: str, new: NewBuild) -> list[str]:
    routing = (*path, "routing")
    before = document.text
    told = []
    replaced = document.get((*routing, "ramping"))
    if replaced and str(replaced) != key:
        told.append(f"look: '{replaced}' was ramping and no longer gets new work")
    told.extend(_note_ramp_down(document, routing, key, new))
    document.set((*routing, "current"), current)
    document.set((*routing, "ramping"), key)
    document.set((*routing, "percentage"), new.percentage)
    if document.text != before:
        told.append(f"ramping '{key}' of '{new.queue}' at {new.percentage:g} %")
    return told


def _note_ramp_down(document: Document, routing: Path, key: str, new: NewBuild) -> list[str]:
    now = document.get((*routing, "percentage"))
    is_less = isinstance(now, int | float) and new.percentage < now
    if document.get((*routing, "ramping")) != key or not is_less:
        return []
    return [
        f"look: the percentage goes back from {now:g}; the change of the routing is refused unless "
        "rollout.allowRampDown is true"
    ]
