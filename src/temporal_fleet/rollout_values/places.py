"""Where maps and their entries are in the text of a YAML document, and how the text changes there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from temporal_fleet.rollout_values.yaml_text import Value, render_block, render_inline, requote

Entry = tuple[ScalarNode, Node]
"""A key and its value."""


class Place:
    """A map in the text; every change is returned as a new text."""

    def __init__(self, text: str, node: MappingNode) -> None:
        self.text = text
        self.node = node
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def entry(self, key: str) -> Entry | None:
        """Return the entry with a key."""
        return next((pair for pair in self.node.value if pair[0].value == key), None)

    def enter(self, entry: Entry) -> Place | None:
        """Return the map that is the value of an entry; None when it is none, or is elsewhere."""
        node = entry[1]
        if not isinstance(node, MappingNode) or _is_alias(entry):
            return None
        return Place(self.text, node)

    def insert(self, key: str, value: Value) -> str:
        """Add an entry behind the last one, written like those that are there."""
        if self.node.flow_style:
            rendered = f"{requote(key)}: {render_inline(value)}"
            if not self.node.value:
                start = self.node.start_mark.index
                start = self.text.index("{", start)
                return f"{self.text[:start]}{{{rendered}{self.text[self.node.end_mark.index - 1 :]}"
            at = _end(self.text, self.node.value[-1])
            return f"{self.text[:at]}, {rendered}{self.text[at:]}"
        column = self.node.value[0][0].start_mark.column
        at = self._end_of_lines(self.node.value[-1])
        head, tail = self.text[:at], self.text[at:]
        if not head.endswith("\n"):
            head += self.newline
        lines = render_block(key, value, column, inline=self._prefers_inline(value))
        return head + "".join(f"{line}{self.newline}" for line in lines) + tail

    def replace(self, entry: Entry, value: Value) -> str:
        """Write another value for an entry."""
        key, node = entry
        if _is_empty(node):
            at = self.text.index(":", key.end_mark.index) + 1
            return f"{self.text[:at]} {render_inline(value)}{self.text[at:]}"
        start, end = node.start_mark.index, _end(self.text, entry)
        shown = render_inline(value)
        if isinstance(value, str) and isinstance(node, ScalarNode):
            shown = requote(value, node.style)
        return f"{self.text[:start]}{shown}{self.text[end:]}"

    def remove(self, key: str) -> str:
        """Take an entry out, if it is there and not only merged in."""
        pairs = self.node.value
        position = next((i for i, pair in enumerate(pairs) if pair[0].value == key), None)
        if position is None:
            return self.text
        start = pairs[position][0].start_mark.index
        if not self.node.flow_style:
            start, end = self._start_of_lines(position), self._end_of_lines(pairs[position])
            if not position or self.text[:start].endswith(self.newline * 2):
                # A blank line that set the entry apart goes with it.
                blank = self.text[end:].startswith(self.newline)
                end += len(self.newline) if blank else 0
        elif position:
            start, end = _end(self.text, pairs[position - 1]), _end(self.text, pairs[position])
        elif len(pairs) > 1:
            end = pairs[1][0].start_mark.index
        else:
            end = _end(self.text, pairs[0])
        return self.text[:start] + self.text[end:]

    def _prefers_inline(self, value: Value) -> bool:
        """Return whether the maps beside it are written in braces."""
        last = self.node.value[-1][1]
        is_inline = isinstance(last, MappingNode) and bool(last.flow_style)
        return is_inline and isinstance(value, Mapping)

    def _start_of_lines(self, position: int) -> int:
        key = self.node.value[position][0]
        start = _line_start(self.text, key.start_mark.index)
        # A comment above the first entry may be about all of them.
        while position and start:
            above = _line_start(self.text, start - 1)
            line = self.text[above:start]
            if not line.strip().startswith("#") or _indent(line) != key.start_mark.column:
                break
            start = above
        return start

    def _end_of_lines(self, entry: Entry) -> int:
        """Return the end of the last line of an entry, with comments that are indented below it."""
        column = entry[0].start_mark.column
        end = found = _line_end(self.text, _end(self.text, entry))
        while found < len(self.text):
            after = _line_end(self.text, found)
            line = self.text[found:after]
            if line.strip():
                if not line.strip().startswith("#") or _indent(line) <= column:
                    break
                end = after
            found = after
        return end


def _is_alias(entry: Entry) -> bool:
    # The node of an alias is the one that has the anchor, which stands before.
    return bool(entry[1].start_mark.index < entry[0].end_mark.index)


def _is_empty(node: Node) -> bool:
    is_scalar = isinstance(node, ScalarNode)
    return is_scalar and bool(node.start_mark.index == node.end_mark.index)


def _end(text: str, entry: Entry) -> int:
    """Return where an entry ends: behind its last character that is neither space nor comment."""
    key, node = entry
    if _is_alias(entry):
        alias = re.compile(r"\s*:\s*\*[^\s,\]}]+").match(text, key.end_mark.index)
        return alias.end() if alias else key.end_mark.index
    if _is_empty(node):
        return text.index(":", key.end_mark.index) + 1
    if isinstance(node, MappingNode) and not node.flow_style:
        return _end(text, node.value[-1])
    if isinstance(node, SequenceNode) and not node.flow_style:
        last = node.value[-1]
        return int(last.end_mark.index) if _is_empty(last) else _end(text, (key, last))
    start = node.start_mark.index
    return int(start) + len(text[start : node.end_mark.index].rstrip())


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
