"""Reads values files and writes them so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
from pathlib import Path

from temporal_fleet.errors import ValuesFileError
from temporal_fleet.rollout_values.document import Document

_NO_NEWLINE = "\\ No newline at end of file\n"
"""What Git writes below a last line that has no end."""


def read_document(path: Path) -> Document:
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


def write_atomically(path: Path, text: str) -> None:
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
        Path(temporary).chmod(target.stat().st_mode)
        Path(temporary).replace(target)
    except OSError as exc:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
        raise ValuesFileError(f"{path} cannot be written: {exc.strerror}") from exc


def diff(before: str, after: str, path: Path) -> str:
    """Return the change of a file as people and ``git apply`` read it; empty when there is none."""
    name = path.as_posix().lstrip("/")
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}" for line in lines)


def _lines(text: str) -> list[str]:
    # Git knows one line end; str.splitlines knows more, such as U+2028.
    return re.findall(r"[^\n]*\n|[^\n]+", text)
