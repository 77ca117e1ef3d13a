"""Writes what the chart says of the runtime's settings and of its own values, or checks it with --check.

Generated: `$defs.settings` in values.schema.json, from the settings of a worker; the table of values in the
chart's README, from the comments in values.yaml (`# --` begins a description, as in helm-docs); and the
PrometheusRule of Kustomize, from the chart's files of rules.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from temporal_fleet.settings import Settings
from temporal_fleet.settings.fields import SettingField, helm_name, setting_fields
from temporal_fleet.settings.reference import description

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "temporal-fleet"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
VALUES = CHART / "values.yaml"
RULES = CHART / "files" / "rules"
PROMETHEUS_RULE = (
    CHART.parents[1] / "kustomize" / "components" / "monitoring" / "prometheus-rule.yaml"
)

TABLE_BEGIN = "<!-- values:begin -->"
TABLE_END = "<!-- values:end -->"

PROMETHEUS_RULE_HEAD = """\
# Generated from the chart's rules by `make docs`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fleet
  labels:
    app.kubernetes.io/name: temporal-fleet
    app.kubernetes.io/instance: fleet
    app.kubernetes.io/component: monitoring
    app.kubernetes.io/part-of: temporal-fleet
spec:
  groups:
"""

SET_BY_THE_CHART = frozenset(
    {
        *("deployment.name", "deployment.build_id", "deployment.versioning", "worker.task_queue"),
        *("codec.keys_directory", "codec.encryption_key_id"),
    }
)
"""These have keys of their own in the values, since other objects depend on them, or they on others."""

OFF_BY_ZERO = frozenset({"worker.heartbeat_interval"})
"""These accept 0 below their range, for "never"."""

JSON_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    timedelta: "number",
}
KEYWORDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    stale = []
    generated = {
        SCHEMA: render_schema(),
        README: render_readme(),
        PROMETHEUS_RULE: render_prometheus_rule(),
    }
    for path, text in generated.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(str(path.relative_to(CHART.parents[2])))
        else:
            path.write_text(text, encoding="utf-8")
    if check:
        print(f"not fresh: {', '.join(stale)}. Run: make docs" if stale else "the chart is fresh")
    return 1 if stale else 0


def render_schema() -> str:
    """Return values.schema.json with the settings as they are now."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema.setdefault("$defs", {})["settings"] = settings_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of `settings` in the values."""
    return {
        "type": "object",
        "description": (
            "Settings of the worker by name; null = not set. Secret ones go into secretEnv or "
            "secretFiles."
        ),
        "additionalProperties": False,
        "properties": {
            helm_name(path): setting_schema(field)
            for path, field in setting_fields(Settings).items()
            if is_in_settings(path, field)
        },
    }


def is_in_settings(path: str, field: SettingField) -> bool:
    """Whether a setting of the runtime is one of `settings` in the values."""
    return not (path.startswith("temporal.") or path in SET_BY_THE_CHART or field.is_secret)


def setting_schema(field: SettingField) -> dict[str, Any]:
    """Return the JSON schema of one setting."""
    schema: dict[str, Any] = {}
    if field.choices:
        schema["enum"] = [*field.choices, None]
    elif field.is_list:
        schema["type"] = ["array", "string", "null"]
        schema["items"] = {"type": "number", "exclusiveMinimum": 0}
    else:
        types = [JSON_TYPES[t] for t in field.types if t in JSON_TYPES]
        schema["type"] = [*(types or ["string"]), "null"]
    for kind, limit in field.bounds.items():
        schema[KEYWORDS[kind]] = _plain(limit)
    if field.path in OFF_BY_ZERO:
        schema["minimum"] = 0
    meaning = description(field).replace("None = ", "null = ")
    text = f"{meaning} Environment: {field.env}."
    if "default" in field.extra:
        text += f" Default: {field.default_text}."
    else:
        default = _plain(field.info.get_default(call_default_factory=False))
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return {"description": text, **schema}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def render_readme() -> str:
    """Return the chart's README with the table of values as they are now.

    Raises:
        SystemExit: The README has no markers to put the table between.
    """
    text = README.read_text(encoding="utf-8")
    head, begin, rest = text.partition(TABLE_BEGIN)
    _, end, tail = rest.partition(TABLE_END)
    if not (begin and end):
        sys.exit(f"{README.name} of the chart lacks {TABLE_BEGIN} and {TABLE_END}")
    table = "\n".join(values_table(VALUES.read_text(encoding="utf-8")))
    return f"{head}{begin}\n{table}\n{end}{tail}"


def render_prometheus_rule() -> str:
    """Return the rules of the chart as an object for the Prometheus operator."""
    groups = ""
    for path in sorted(RULES.glob("*.yaml")):
        _, _, listed = path.read_text(encoding="utf-8").partition("\ngroups:\n")
        # As text, since a YAML writer would drop the comments and fold the expressions.
        groups += textwrap.indent(listed.rstrip() + "\n", "  ")
    return PROMETHEUS_RULE_HEAD + groups


@dataclass(frozen=True)
class DocumentedValue:
    """One key of values.yaml that has a description."""

    path: tuple[str, ...]
    description: str
    default_text: str | None
    """What `# @default --` says; None = the value itself."""


def values_table(text: str) -> Iterator[str]:
    """Yield the lines of a Markdown table of all documented values.

    Args:
        text: What values.yaml holds.
    """
    values = yaml.safe_load(text)
    documented = list(documented_values(text))
    parents = {value.path[:depth] for value in documented for depth in range(len(value.path))}
    yield "| Value | Default | Meaning |"
    yield "| --- | --- | --- |"
    for value in documented:
        default = value.default_text
        if default is None:
            default = _shown_default(values, value.path, is_parent=value.path in parents)
        cells = [f"`{'.'.join(value.path)}`", default, value.description]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown_default(values: Any, path: tuple[str, ...], *, is_parent: bool) -> str:
    for key in path:
        values = values[key]
    return "" if is_parent else f"`{json.dumps(values, ensure_ascii=False)}`"


def documented_values(text: str) -> Iterator[DocumentedValue]:
    """Yield the keys with a `# --` comment right above them, in the order of the file.

    Args:
        text: What values.yaml holds: block style, keys of maps only (lists are values).
    """
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            words = stripped.removeprefix("#").strip()
            comment = [words] if words.startswith("-- ") else [*comment, words]
            continue
        match = re.match(r"( *)([A-Za-z0-9_.\-]+):( |$)", line)
        if match:
            indent = len(match[1])
            above = [each for each in above if each[0] < indent] + [(indent, match[2])]
            if comment and comment[0].startswith("-- "):
                yield _documented(tuple(key for _, key in above), comment)
        comment = []


def _documented(path: tuple[str, ...], comment: list[str]) -> DocumentedValue:
    default = next((each for each in comment if each.startswith("@default -- ")), None)
    lines = [each for each in comment if not each.startswith("@")]
    return DocumentedValue(
        path,
        " ".join(lines).removeprefix("-- ").strip(),
        default.removeprefix("@default -- ") if default else None,
    )


if __name__ == "__main__":
    sys.exit(main())
