"""A YAML file that is edited where it must change and nowhere else.

Writing a whole document anew loses what people put into it: comments move, long lines are folded, quotes
change. Here the text is parsed only to learn where things are; edits replace, insert or remove exactly
those characters. After each one the result is read again and compared with what it should say.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from temporal_fleet.errors import ValuesFileError
from temporal_fleet.rollout_values.yaml_text import Value

if TYPE_CHECKING:
    from temporal_fleet.rollout_values.places import Place

Path = tuple[str, ...]
"""Keys from the top of the document."""

_NO_NEWLINE = "\\ No newline at end of file\n"
"""What Git writes below a last line that has no end."""


class Document:
    """A YAML document whose text stays as it is, except for what is set or removed.

    Args:
        text: The document; its top must be a map.
        source: Where it came from, for errors.

    Raises:
        ValuesFileError: It cannot be read as YAML, or ruamel.yaml is not installed.
    """

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.data = self._load(text)

    def get(self, path: Sequence[str]) -> Any:
        """Return a value, or None when it or anything above it is not there."""
        found: Any = self.data
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def set(self, path: Path, value: Value) -> None:
        """Set a value; what is missing above it is added.

        Raises:
            ValuesFileError: The place is shared by an anchor or a merge key, or is written in a way that
                edits do not handle; nothing was changed.
        """
        if self.get(path) == value and type(self.get(path)) is type(value):
            return
        expected = copy.deepcopy(self.data)
        _put(expected, path, value)
        self._replace(self._with(path, value), expected, path)

    def remove(self, path: Path) -> None:
        """Remove a key that is there, its value, and the comments that belong to it.

        Raises:
            ValuesFileError: The place is shared by an anchor or a merge key, or is written in a way that
                edits do not handle; nothing was changed.
        """
        expected = copy.deepcopy(self.data)
        parent = expected
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
        self._replace(self._without(path), expected, path)

    def _replace(self, text: str, expected: object, path: Path) -> None:
        try:
            data = self._load(text)
            is_expected = data == expected
        except ValuesFileError:
            is_expected, data = False, self.data
        if not is_expected:
            raise ValuesFileError(
                f"{self.source}: {'.'.join(path)} cannot be edited without changing something else. "
                f"{self._reason(path)}. Edit it by hand"
            )
        self.text, self.data = text, data

    def _reason(self, path: Path) -> str:
        from temporal_fleet.rollout_values.obstacles import find_obstacles

        found = find_obstacles(self._top(), path)
        if not found:
            return "It is written in a way that is not known here"
        return f"What may be in the way: {', '.join(found)}"

    def _load(self, text: str) -> dict[str, Any]:
        yaml = _yaml()
        from ruamel.yaml.error import YAMLError

        try:
            data = yaml.load(text)
        except YAMLError as exc:
            reason = " ".join(str(exc).split())
            raise ValuesFileError(f"{self.source} is not valid YAML: {reason}") from exc
        if not isinstance(data, dict):
            raise ValuesFileError(f"{self.source} is not a map of values")
        return _with_text_keys(data)

    def _top(self) -> Place:
        from temporal_fleet.rollout_values.places import Place

        return Place(self.text, _yaml().compose(self.text))

    def _with(self, path: Path, value: Value) -> str:
        place = self._top()
        for depth, key in enumerate(path):
            entry = place.entry(key)
            rest = path[depth + 1 :]
            if entry is None:
                return place.insert(key, _nest(rest, value))
            inner = place.enter(entry)
            if not rest or inner is None:
                return place.replace(entry, _nest(rest, value))
            place = inner
        raise AssertionError("a path has at least one key")

    def _without(self, path: Path) -> str:
        place = self._top()
        for key in path[:-1]:
            entry = place.entry(key)
            inner = place.enter(entry) if entry else None
            if inner is None:
                # It is in the data by an alias or a merge key: the comparison tells.
                return self.text
            place = inner
        return place.remove(path[-1])


def _yaml() -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError as exc:
        raise ValuesFileError(
            "editing values needs ruamel.yaml, which is not installed. Install temporal-fleet with "
            "its extra 'gitops': pip install 'temporal-fleet[gitops]'"
        ) from exc
    from temporal_fleet.rollout_values.places import HelmScanner

    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = HelmScanner
    return yaml


def _with_text_keys(data: dict[Any, Any]) -> dict[str, Any]:
    return {
        str(key): _with_text_keys(value) if isinstance(value, dict) else value
        for key, value in data.items()
    }


def _put(data: dict[str, Any], path: Path, value: Value) -> None:
    *parents, last = path
    for key in parents:
        if not isinstance(data.get(key), dict):
            data[key] = {}
        data = data[key]
    data[last] = value


def _nest(path: Path, value: Value) -> Value:
    for key in reversed(path):
        value = {key: value}
    return value


def read_document(path: pathlib.Path) -> Document:
    """Read a values file.

    Raises:
        ValuesFileError: It cannot be read, or is not YAML.
    """
    try:
        # Line ends are kept as they are.
        text = path.read_bytes().decode("utf-8")
    except OSError as exc:
        raise ValuesFileError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ValuesFileError(f"{path} cannot be read: it is not UTF-8") from exc
    return Document(text, str(path))


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Replace the content of a file at once; its mode stays, and a link to it stays a link.

    Raises:
        ValuesFileError: It cannot be written; it is as before then.
    """
    target = path.resolve()
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        pathlib.Path(temporary).chmod(target.stat().st_mode)
        pathlib.Path(temporary).replace(target)
    except OSError as exc:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                pathlib.Path(temporary).unlink()
        raise ValuesFileError(f"{path} cannot be written: {exc.strerror}") from exc


def diff(before: str, after: str, path: pathlib.Path) -> str:
    """Return the change of a file as people and ``git apply`` read it; empty when there is none."""
    name = path.as_posix().lstrip("/")
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}" for line in lines)


def _lines(text: str) -> list[str]:
    # Git knows one line end; str.splitlines knows more, such as U+2028.
    return re.findall(r"[^\n]*\n|[^\n]+", text)
