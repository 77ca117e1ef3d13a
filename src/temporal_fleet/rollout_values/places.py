"""Where maps and their entries are in the text of a YAML document, and how the text changes there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scanner import Scanner
from typing_extensions import override

from temporal_fleet.rollout_values.yaml_text import Value, render_block, render_inline, requote

Entry = tuple[ScalarNode, Node]
"""A key and its value."""

_QUOTES = ("'", '"')
_COMMA = re.compile(r"\s*,")
_TAIL = re.compile(r"[ \t]*(?P<comma>,?)[ \t]*(#[^\n]*)?(\r?\n|\Z)")
"""The rest of a line behind an entry in braces that has the line for itself."""


class HelmScanner(Scanner):
    """A scanner that takes a tab between tokens, such as one before a comment, for a space.

    Where a key may begin, a tab would be indentation: it is refused there, by Helm as well.
    """

    @override
    def scan_to_next_token(self) -> None:
        """Skip what stands before the next token."""
        super().scan_to_next_token()
        while self.reader.peek() == "\t" and not self.allow_simple_key:
            self.reader.forward()
            super().scan_to_next_token()


class Place:
    """A map in the text; every change is returned as a new text.

    Args:
        text: The document.
        node: The map.
        head: Behind the colon of the entry whose value the map is; None = the map is the document.
        key_style: Quotes of the keys around it, which it follows where its own do not tell.
    """

    def __init__(
        self, text: str, node: MappingNode, head: int | None = None, key_style: str | None = None
    ) -> None:
        self.text = text
        self.node = node
        self.head = head
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.key_style = _key_style(node, key_style)

    def entry(self, key: str) -> Entry | None:
        """Return the entry with a key."""
        return next((pair for pair in self.node.value if pair[0].value == key), None)

    def enter(self, entry: Entry) -> Place | None:
        """Return the map that is the value of an entry; None when it is none, or is elsewhere."""
        key, node = entry
        if not isinstance(node, MappingNode) or is_alias(entry):
            return None
        return Place(self.text, node, _behind_colon(self.text, key), self.key_style)

    def insert(self, key: str, value: Value) -> str:
        """Add an entry behind the last one, written like those that are there."""
        if self.node.flow_style:
            shown = render_inline(value, self.key_style)
            rendered = f"{requote(key, self.key_style)}: {shown}"
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
        lines = render_block(
            key, value, column, inline=self._prefers_inline(value), key_style=self.key_style
        )
        return head + "".join(f"{line}{self.newline}" for line in lines) + tail

    def replace(self, entry: Entry, value: Value) -> str:
        """Write another value for an entry."""
        key, node = entry
        if _is_empty(node):
            at = _behind_colon(self.text, key)
            return f"{self.text[:at]} {render_inline(value, self.key_style)}{self.text[at:]}"
        start, end = node.start_mark.index, _end(self.text, entry)
        shown = render_inline(value, self.key_style)
        if isinstance(value, str) and isinstance(node, ScalarNode):
            shown = requote(value, node.style)
        return f"{self.text[:start]}{shown}{self.text[end:]}"

    def remove(self, key: str) -> str:
        """Take an entry out, if it is there and not only merged in; comments of others stay."""
        pairs = self.node.value
        position = next((i for i, pair in enumerate(pairs) if pair[0].value == key), None)
        if position is None:
            return self.text
        if self.node.flow_style:
            return self._without_lines_in_braces(position) or self._without_in_braces(position)
        start, end = self._start_of_lines(position), self._end_of_lines(pairs[position])
        if not position or self.text[:start].endswith(self.newline * 2):
            # A blank line that set the entry apart goes with it.
            blank = self.text[end:].startswith(self.newline)
            end += len(self.newline) if blank else 0
        before = self.text[:start]
        if len(pairs) == 1 and self.head is not None:
            # Without its last entry a map in lines would be null, which says something else to Helm.
            before = f"{before[: self.head]} {{}}{before[self.head :]}"
        return before + self.text[end:]

    def has_comments_between(self) -> bool:
        """Return whether entries in braces have comments between them."""
        pairs = self.node.value if self.node.flow_style else []
        return any(self._has_comment(i) for i in range(1, len(pairs)))

    def _has_comment(self, position: int) -> bool:
        """Return whether a comment stands between an entry in braces and the one before it."""
        before, entry = self.node.value[position - 1 : position + 1]
        return "#" in self.text[_end(self.text, before) : entry[0].start_mark.index]

    def _without_lines_in_braces(self, position: int) -> str | None:
        """Take the lines of an entry out; None when it shares them with others."""
        pairs = self.node.value
        first, end = pairs[position][0].start_mark.index, _end(self.text, pairs[position])
        tail = _TAIL.match(self.text, end)
        is_last = position == len(pairs) - 1
        if tail is None or self.text[_line_start(self.text, first) : first].strip():
            return None
        if not is_last and not tail["comma"]:
            return None
        before, after = self.text[: self._start_of_lines(position)], self.text[tail.end() :]
        if position and is_last and not tail["comma"]:
            # The one before becomes the last; JSON has no comma there.
            at = _end(self.text, pairs[position - 1])
            comma = _COMMA.match(before, at)
            if comma is None:
                return None
            before = before[: comma.end() - 1] + before[comma.end() :]
        return before + after

    def _without_in_braces(self, position: int) -> str:
        """Take an entry out of a line; nothing when a comment, which may be another's, would go too."""
        pairs = self.node.value
        start, end = pairs[position][0].start_mark.index, _end(self.text, pairs[position])
        if position:
            if self._has_comment(position):
                return self.text
            start = _end(self.text, pairs[position - 1])
        elif len(pairs) > 1:
            if self._has_comment(1):
                return self.text
            end = pairs[1][0].start_mark.index
        else:
            comma = _COMMA.match(self.text, end)
            end = comma.end() if comma else end
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


def is_alias(entry: Entry) -> bool:
    """Return whether the value of an entry is an alias."""
    # The node of an alias is the one that has the anchor, which stands before.
    return bool(entry[1].start_mark.index < entry[0].end_mark.index)


def _key_style(node: MappingNode, default: str | None) -> str | None:
    """Return the quotes that keys have without need; the default when none can tell."""
    keys = [key for key, _ in node.value]
    if any(key.style not in _QUOTES for key in keys):
        return None
    return next((str(key.style) for key in keys if requote(key.value) == key.value), default)


def _behind_colon(text: str, key: ScalarNode) -> int:
    return text.index(":", key.end_mark.index) + 1


def _is_empty(node: Node) -> bool:
    is_scalar = isinstance(node, ScalarNode)
    return is_scalar and bool(node.start_mark.index == node.end_mark.index)


def _end(text: str, entry: Entry) -> int:
    """Return where an entry ends: behind its last character that is neither space nor comment."""
    key, node = entry
    if is_alias(entry):
        alias = re.compile(r"\s*:\s*\*[^\s,\]}]+").match(text, key.end_mark.index)
        return alias.end() if alias else key.end_mark.index
    if _is_empty(node):
        return _behind_colon(text, key)
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
