"""Shows settings to people: the effective ones with their origin, and a reference of all.

The reference is the same on every machine: defaults that depend on the container are described.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel

from temporal_fleet.settings.fields import GRPC_META_PREFIX, SettingField, setting_fields
from temporal_fleet.settings.loading import LoadedSettings
from temporal_fleet.settings.model import Settings

_INTRODUCTION = """\
# Settings

A worker is configured by environment variables and files; this page lists every setting.
`fleet settings show` prints the effective value of each and where it came from.
`fleet settings docs` writes this page from the source: do not edit it.

**Where a value comes from.** For each setting the first of these counts:

1. the environment variable;
2. the file that the variable with `_FILE` appended names, such as
   `TEMPORAL_API_KEY_FILE=/run/secrets/key`;
3. a file in the directory `FLEET_SECRETS_DIR`, named like the variable, in any case and with `-` or `_`;
4. for the connection, the profile in Temporal's TOML file;
5. for some, a standard variable (of proxies, of OpenTelemetry, of the Temporal Worker Controller), named below;
6. the default.

Setting both a variable and its `_FILE` is an error. So are an unknown `FLEET_` variable, a file
that cannot be read and an empty file. A variable that is empty counts as not set. All are read
without the white space around their text. All errors are reported at once; the worker exits with
code 3.

**How to write a value.** Durations are numbers of seconds, such as `30` or `0.5`; the variable's
name ends in `_SECONDS`. Lists are separated by commas. Booleans are `true` or `false`. Words such
as log levels may be written in upper or lower case.

**In Python** a setting is an attribute of `Settings`, such as `settings.drain.timeout`, and
durations are `timedelta`.
"""


@dataclass(frozen=True)
class SettingRow:
    """One setting as ``fleet settings show`` prints it."""

    path: str
    """Attributes that lead to it, such as ``drain.timeout``."""
    env: str
    """Name of its environment variable."""
    value_masked: str
    """The effective value as one would set it; ``none`` for None, masked when it is secret."""
    source: str
    """Where the value came from."""
    default: str
    """The default, described when it depends on the machine."""
    unit: str
    """Unit of the value; empty when it has none."""
    description: str
    """What it is for."""
    type: str
    """What may be written."""


def rows(loaded: LoadedSettings) -> list[SettingRow]:
    """Return one row for each setting, in the order of the reference."""
    return [
        SettingRow(
            path=path,
            env=_shown_env(field),
            value_masked=field.show(reduce(getattr, path.split("."), loaded.settings)),
            source=loaded.provenance[path],
            default=field.default_text,
            unit=field.unit,
            description=description(field),
            type=_shown_type(field),
        )
        for path, field in setting_fields(Settings).items()
    ]


def reference_markdown() -> str:
    """Return the reference of all settings as Markdown, one table for each group."""
    return "\n".join([_INTRODUCTION, *_group_tables()])


def description(field: SettingField) -> str:
    """Return what a setting is for: the string under its declaration, on one line.

    Raises:
        OSError: The source of the class is not there, as in some frozen applications.
    """
    return field.info.description or _docstrings(field.owner).get(field.path.split(".")[-1], "")


def _group_tables() -> Iterator[str]:
    docs = _docstrings(Settings)
    for name, info in Settings.model_fields.items():
        group = info.annotation
        assert isinstance(group, type)
        yield f"## {name.replace('_', ' ').capitalize()}\n"
        text = inspect.getdoc(group)
        yield f"{text or docs[name]}\n"
        yield "| Variable | In Python | Value | Default | Meaning |"
        yield "| --- | --- | --- | --- | --- |"
        for path, field in setting_fields(Settings).items():
            if path.startswith(f"{name}."):
                yield _table_row(path, field)
        yield ""


def _table_row(path: str, field: SettingField) -> str:
    default = field.default_text
    written = default if "default" in field.extra or default == "none" else f"`{default}`"
    cells = [
        f"`{_shown_env(field)}`",
        f"`{path}`",
        _shown_type(field),
        written,
        description(field),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown_env(field: SettingField) -> str:
    return f"{GRPC_META_PREFIX}<NAME>" if field.path == "temporal.grpc_meta" else field.env


def _shown_type(field: SettingField) -> str:
    text = field.type_text + (f", {field.range_text}" if field.range_text else "")
    return f"{text} (secret)" if field.is_secret else text


@functools.cache
def _docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the strings under the fields of a class and its bases.

    Pydantic can do it while it builds the class, but that took a third of a worker's import time.
    """
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base.__module__.partition(".")[0] != "pydantic":
            docs.update(_class_docstrings(base))
    return docs


def _class_docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    file = inspect.getsourcefile(model)
    if file is None:
        return
    body = next(
        (
            node.body
            for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef) and node.name == model.__name__
        ),
        [],
    )
    for statement, following in pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            yield statement.target.id, re.sub(r"\s+", " ", following.value.value.strip())
