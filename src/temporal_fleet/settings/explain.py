"""Turns pydantic's errors into problems that an operator can mend without reading code."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from temporal_fleet.errors import Problem
from temporal_fleet.settings.fields import MASK, SettingField, hide_password
from temporal_fleet.settings.rules import BROKEN_RULES, BrokenRule, name_settings
from temporal_fleet.settings.sources import Found, Unreadable, is_service_url

_SAID = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
}


def explain(
    errors: list[ErrorDetails],
    fields: Mapping[str, SettingField],
    found: Mapping[str, Found],
) -> Iterator[Problem]:
    """Yield a problem for each setting that an error is about.

    Args:
        errors: What pydantic found.
        fields: The settings of the model by path.
        found: Values that were read, by path; a setting that is not there has its default.
    """
    seen: set[str] = set()
    for error in errors:
        if error["type"] == BROKEN_RULES:
            for rule in error["ctx"]["rules"]:
                yield _explain_rule(rule, fields, found)
            continue
        field = _field_at(error["loc"], fields)
        if field is None:
            yield from _explain_group(error, fields)
        # One value may break several branches of a union: the first is told.
        elif field.path not in seen and not _is_follow_up(error, found.get(field.path)):
            seen.add(field.path)
            yield _explain_value(error, field, found.get(field.path))


def masked(field: SettingField, value: object) -> str:
    """Quote a value for a problem: masked when it is secret, passwords in URLs always."""
    if field.is_secret:
        return f"'{MASK}'"
    return f"'{hide_password(value) if isinstance(value, str) else field.show(value)}'"


def expected(field: SettingField) -> str:
    """Say what to write for a setting."""
    limits = field.range_text
    if not limits:
        return f"Use {field.type_text}."
    return f"Use {field.type_text}{' from' if ' to ' in limits else ','} {limits}."


def _is_follow_up(error: ErrorDetails, found: Found | None) -> bool:
    # The value could not be read, or a default could not be derived from another that is wrong.
    unreadable = found is not None and isinstance(found.value, Unreadable)
    return unreadable or error["type"] == "default_factory_not_called"


def _field_at(
    loc: tuple[int | str, ...], fields: Mapping[str, SettingField]
) -> SettingField | None:
    by_keys = {field.keys: field for field in fields.values()}
    for length in range(len(loc), 0, -1):
        field = by_keys.get(tuple(str(key) for key in loc[:length]))
        if field is not None:
            return field
    return None


def _explain_rule(
    rule: BrokenRule, fields: Mapping[str, SettingField], found: Mapping[str, Found]
) -> Problem:
    def name(path: str) -> str:
        return fields[path].env

    source = found.get(rule.path)
    return Problem(
        name(rule.path),
        name_settings(rule.message, name),
        source.where(name(rule.path)) if source else None,
        name_settings(rule.cure, name),
    )


def _explain_group(error: ErrorDetails, fields: Mapping[str, SettingField]) -> Iterator[Problem]:
    loc = tuple(str(key) for key in error["loc"])
    inside = [field for field in fields.values() if field.keys[: len(loc)] == loc]
    missing = [field for field in inside if field.info.is_required()]
    if error["type"] == "missing" and missing:
        for field in missing:
            yield _explain_value(error, field, None)
    else:
        names = ", ".join(field.env for field in inside)
        yield Problem(names, _message(error))


def _explain_value(error: ErrorDetails, field: SettingField, found: Found | None) -> Problem:
    if error["type"] == "missing":
        return Problem(
            field.env,
            "is required, but not set",
            None,
            f"Set it, or set {field.env}_FILE to the path of a file that holds it.",
        )
    value = found.value if found else error["input"]
    said = _SAID.get(error["type"]) or (
        f"is not {field.type_text}" if field.choices else _message(error)
    )
    return Problem(
        field.env,
        f"{masked(field, value)} {said}",
        found.where(field.env) if found else None,
        _cure(error, field, str(value)),
    )


def _cure(error: ErrorDetails, field: SettingField, value: str) -> str:
    if is_service_url(value):
        return (
            "Kubernetes sets it for a Service of that name: use enableServiceLinks: false in the "
            "pod, or rename the Service."
        )
    if cure := error.get("ctx", {}).get("cure"):
        return str(cure)
    if field.choices:
        close = difflib.get_close_matches(value.lower(), [c.lower() for c in field.choices], n=1)
        if close:
            meant = next(c for c in field.choices if c.lower() == close[0])
            return f"Did you mean {meant}?"
    return expected(field)


def _message(error: ErrorDetails) -> str:
    cause: Any = error.get("ctx", {}).get("error")
    if isinstance(cause, Exception):
        return str(cause)
    message = error["msg"]
    # A message of our own goes on after the value; pydantic's is a sentence of its own.
    return message if message.startswith(("is ", "starts ")) else f"is not valid: {message}"
