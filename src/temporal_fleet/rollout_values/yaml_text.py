"""Writes keys, scalars and maps as YAML text in the manner of values files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Value = str | float | bool | Mapping[str, Any]
"""What can be written: scalars, and maps of them."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_PLAIN = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
"""Words that some reader of YAML takes for something other than text."""

_STEP = 2


def requote(text: str, style: str | None = None) -> str:
    """Return text as a scalar, in the quotes that were there or else in the fewest.

    Args:
        text: What it says.
        style: The quotes that the replaced scalar had; None = none.
    """
    if style == "'" and "\n" not in text:
        return "'" + text.replace("'", "''") + "'"
    if style != '"' and _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN:
        return text
    return json.dumps(text, ensure_ascii=False)


def render_inline(value: Any, key_style: str | None = None) -> str:
    """Return a scalar, or a map in braces; text is in quotes, since build IDs may look like numbers.

    Args:
        value: A scalar, or a map.
        key_style: Quotes of the keys; None = only those that they need.
    """
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{requote(key, key_style)}: {render_inline(each, key_style)}"
            for key, each in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def render_block(
    key: str, value: Any, column: int, *, inline: bool = False, key_style: str | None = None
) -> list[str]:
    """Return the lines of an entry of a map.

    Args:
        key: Its key.
        value: A scalar, or a map.
        column: Where the key begins.
        inline: Whether a map is written in braces.
        key_style: Quotes of the keys; None = only those that they need.
    """
    head = f"{' ' * column}{requote(key, key_style)}:"
    if inline or not isinstance(value, Mapping) or not value:
        return [f"{head} {render_inline(value, key_style)}"]
    lines = [head]
    for name, each in value.items():
        lines.extend(render_block(name, each, column + _STEP, key_style=key_style))
    return lines
