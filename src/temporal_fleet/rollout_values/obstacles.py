"""Names what may keep a place in a YAML document from being edited, for errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from temporal_fleet.rollout_values.places import Place, is_alias

_MERGE = "tag:yaml.org,2002:merge"
_QUESTION = re.compile(r"(?<![^\s,{:])\?\s+$")
_KEEPS = re.compile(r"[^\n]*[|>][0-9]?\+")


def find_obstacles(place: Place, path: Sequence[str]) -> list[str]:
    """Return what is written in a way that edits do not handle, with its line.

    Args:
        place: The top of the document.
        path: What was to be set or removed.
    """
    found: list[str] = []
    for key in path[:-1]:
        found.extend(_shared_in(place))
        entry = place.entry(key)
        if entry is None:
            break
        if is_alias(entry):
            found.append(f"the alias in line {_line(entry[0])}")
        elif entry[1].anchor:
            found.append(_anchor(entry[1]))
        inner = place.enter(entry)
        if inner is None:
            break
        place = inner
    found.extend(_shared_in(place))
    found.extend(_explicit_keys(place))
    found.extend(_inside(place.node, place.text))
    if place.has_comments_between():
        found.append(
            f"a comment between entries in the braces that begin in line {_line(place.node)}"
        )
    return list(dict.fromkeys(found))


def _shared_in(place: Place) -> Iterator[str]:
    for key, _ in place.node.value:
        if key.tag == _MERGE:
            yield f"the merge key '<<' in line {_line(key)}"


def _explicit_keys(place: Place) -> Iterator[str]:
    for key, _ in place.node.value:
        start = key.start_mark.index
        if _QUESTION.search(place.text, place.text.rfind("\n", 0, start) + 1, start):
            yield f"the key '? {key.value}' in line {_line(key)} (write '{key.value}:')"


def _inside(node: Node, text: str) -> Iterator[str]:
    if isinstance(node, ScalarNode):
        if node.style in ("|", ">") and _KEEPS.match(text, node.start_mark.index):
            yield (
                f"the text in line {_line(node)} whose '+' makes the blank lines behind it part of it "
                f"(write '{node.style}')"
            )
        return
    for each in _children(node):
        if each.anchor:
            yield _anchor(each)
        yield from _inside(each, text)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        # What an alias refers to stands elsewhere.
        return [pair[1] for pair in node.value if not is_alias(pair)]
    return list(node.value)


def _anchor(node: Node) -> str:
    return f"the anchor '&{node.anchor}' in line {_line(node)}"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
