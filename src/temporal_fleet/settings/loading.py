"""Reads settings from the environment, files and the container; reports all problems at once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from temporal_fleet.errors import Problem, SettingsError
from temporal_fleet.settings.container import default_processes, read_limits
from temporal_fleet.settings.explain import expected, explain, masked
from temporal_fleet.settings.fields import SettingField, setting_fields
from temporal_fleet.settings.model import Settings
from temporal_fleet.settings.otel import TRACES_ENDPOINT, find_otel
from temporal_fleet.settings.server_sources import find_server_settings
from temporal_fleet.settings.sources import SECRETS_DIR, Found, Sources, Unreadable

ModelT = TypeVar("ModelT", bound=BaseModel)
SettingsT = TypeVar("SettingsT", bound=BaseSettings)

_ELSEWHERE = {
    "connection.https_proxy": ("HTTPS_PROXY", "https_proxy"),
    "connection.no_proxy": ("NO_PROXY", "no_proxy"),
    "deployment.name": ("TEMPORAL_DEPLOYMENT_NAME",),
    "deployment.build_id": ("TEMPORAL_WORKER_BUILD_ID",),
    "tracing.otlp_endpoint": (TRACES_ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "tracing.otlp_headers": ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
    "tracing.sample_ratio": ("OTEL_TRACES_SAMPLER_ARG",),
    "tracing.service_name": ("OTEL_SERVICE_NAME",),
}
"""Standard variables that are read where ours is not set; the first that is set counts.

Source: https://github.com/temporalio/temporal-worker-controller (those of deployments are
injected by it); of OpenTelemetry's see :mod:`temporal_fleet.settings.otel`.
"""


@dataclass(frozen=True)
class LoadedSettings:
    """Settings and where each of them came from."""

    settings: Settings
    """The settings."""
    provenance: Mapping[str, str]
    """By path, such as ``drain.timeout``: the variable, ``file <path>``, the TOML file and profile,
    ``default``, or ``default: <what it was derived from>``. Every setting is there."""


def load_settings(
    environ: Mapping[str, str] | None = None, *, root: Path = Path("/")
) -> LoadedSettings:
    """Read all settings of a worker.

    For each setting the first of these counts: its variable; the file that the variable with
    ``_FILE`` appended names; a file of its name in the directory FLEET_SECRETS_DIR; for the
    connection, the TOML profile; for some, a standard variable (HTTPS_PROXY, OTEL_*, TEMPORAL_WORKER_BUILD_ID);
    the default. A variable that is empty counts as not set.

    Args:
        environ: Environment variables; None = those of this process.
        root: Directory that holds ``proc`` and ``sys``, for the limits of the container; another
            than ``/`` only in tests.

    Returns:
        The settings, and where each came from.

    Raises:
        SettingsError: Something is wrong; carries every problem, unknown ``FLEET_*`` names too.
    """
    sources = Sources(os.environ if environ is None else environ)
    fields = setting_fields(Settings)
    found = find_server_settings(sources)
    for field in fields.values():
        if not field.path.startswith("temporal."):
            _add(found, field, sources, _ELSEWHERE.get(field.path, ()))
    provenance = _provenance(fields, found)
    if "concurrency.processes" not in found:
        derived = _derive_processes(root)
        provenance["concurrency.processes"] = derived.source
        found["concurrency.processes"] = derived
    sources.report_unknown("FLEET_", {SECRETS_DIR, *(field.env for field in fields.values())})
    return LoadedSettings(_build(Settings, fields, found, sources.problems), provenance)


def load_model(model: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """Read the settings class of a workload by the same rules as `load_settings`.

    Variables are named ``<env_prefix><FIELD>``, with ``_SECONDS`` appended for a ``timedelta``,
    whose value is a number of seconds. Unknown variables with the prefix are problems, unless the
    class has ``extra="ignore"`` or no prefix.

    Args:
        model: The class; its own sources (``.env`` files, CLI) are not used.
        environ: Environment variables; None = those of this process.

    Returns:
        The settings of the workload.

    Raises:
        SettingsError: Something is wrong; carries every problem.
    """
    return load_model_with_provenance(model, environ)[0]


def load_model_with_provenance(
    model: type[SettingsT], environ: Mapping[str, str] | None = None
) -> tuple[SettingsT, Mapping[str, str]]:
    """Do as `load_model` does, and return also where each setting came from, by path."""
    sources = Sources(os.environ if environ is None else environ)
    fields = setting_fields(model)
    found: dict[str, Found] = {}
    for field in fields.values():
        _add(found, field, sources)
    prefix = str(model.model_config.get("env_prefix", "")).upper()
    if prefix and model.model_config.get("extra") == "forbid":
        sources.report_unknown(prefix, {SECRETS_DIR, *(field.env for field in fields.values())})
    return _build(model, fields, found, sources.problems), _provenance(fields, found)


def _provenance(fields: Iterable[str], found: Mapping[str, Found]) -> dict[str, str]:
    return {path: found[path].source if path in found else "default" for path in fields}


def _derive_processes(root: Path) -> Found:
    try:
        derived = default_processes(read_limits(root))
    except OSError as exc:
        # A hardened container may hide its limits; that is no reason not to start.
        return Found(1, f"default: the container's limits cannot be read: {exc}")
    return Found(derived.value, f"default: {derived.reason}")


def _add(
    found: dict[str, Found],
    field: SettingField,
    sources: Sources,
    elsewhere: tuple[str, ...] = (),
) -> None:
    """Look one setting up and interpret its text as far as pydantic does not."""
    hit = sources.find(field.env)
    if hit is None and field.extra.get("empty") == "none" and sources.is_empty(field.env):
        found[field.path] = Found(None, field.env)
        return
    if hit is None:
        hits = (
            find_otel(name, sources) if name.startswith("OTEL_") else sources.find(name)
            for name in elsewhere
        )
        hit = next((each for each in hits if each is not None), None)
    if hit is not None:
        found[field.path] = Found(_interpret(field, hit, sources.problems), hit.source, hit.file)


def _interpret(field: SettingField, found: Found, problems: list[Problem]) -> object:
    text = found.value
    if isinstance(text, Unreadable) or not isinstance(text, str):
        return text
    if field.is_duration:
        return _duration(field, text, found, problems)
    if field.is_json or (field.is_list and text.lstrip().startswith("[")):
        return _json(field, text, found, problems)
    if field.is_list:
        return [item.strip() for item in text.split(",") if item.strip()]
    return next((c for c in field.choices if c.lower() == text.strip().lower()), text)


def _duration(field: SettingField, text: str, found: Found, problems: list[Problem]) -> object:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # timedelta ends at a billion days; whoever means "forever" is told to name a number.
    if math.isfinite(number) and abs(number) < timedelta.max.total_seconds():
        return timedelta(seconds=number)
    problems.append(
        Problem(
            field.env,
            f"{masked(field, text)} is not a number of seconds",
            found.where(field.env),
            expected(field),
        )
    )
    return Unreadable()


def _json(field: SettingField, text: str, found: Found, problems: list[Problem]) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        message = f"{masked(field, text)} is not JSON: {exc.msg} at column {exc.colno}"
        problems.append(Problem(field.env, message, found.where(field.env), "Use a JSON value."))
        return Unreadable()


def _build(
    model: type[ModelT],
    fields: Mapping[str, SettingField],
    found: Mapping[str, Found],
    problems: list[Problem],
) -> ModelT:
    data = _nest(fields, found)
    instance = model.__new__(model)
    try:
        # BaseSettings.__init__ would read the environment of the process once more.
        BaseModel.__init__(instance, **data)
    except ValidationError as exc:
        problems.extend(explain(exc.errors(), fields, found))
    if problems:
        # Raised outside of `except`: a chained ValidationError would print secrets.
        raise SettingsError(_in_order(problems, fields))
    return instance


def _in_order(problems: list[Problem], fields: Mapping[str, SettingField]) -> list[Problem]:
    """Sort problems as the reference sorts settings; what is no setting comes last."""
    names = [field.env for field in fields.values()]
    order = {name: position for position, name in enumerate(names)}
    order |= {f"{name}_FILE": order[name] for name in names if f"{name}_FILE" not in order}
    return sorted(problems, key=lambda problem: order.get(problem.subject, len(names)))


def _nest(fields: Mapping[str, SettingField], found: Mapping[str, Found]) -> dict[str, Any]:
    """Arrange values as pydantic wants them; groups without any value keep their defaults."""
    data: dict[str, Any] = {}
    for path, hit in found.items():
        *groups, key = fields[path].keys
        group = data
        for name in groups:
            group = group.setdefault(name, {})
        group[key] = hit.value
    return data
