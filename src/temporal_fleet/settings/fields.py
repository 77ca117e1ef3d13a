"""The settings of a model one by one: path, names in each spelling, type and text for people.

One setting has one name in three spellings, derived and never written down twice:
``drain.timeout`` in Python, ``FLEET_DRAIN_TIMEOUT_SECONDS`` in the environment,
``drainTimeoutSeconds`` in Helm values.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from temporal_fleet.settings.model import Settings
from temporal_fleet.settings.rules import seconds

MASK = "****"
"""Shown in place of a secret."""

GRPC_META_PREFIX = "TEMPORAL_GRPC_META_"
"""Each variable with this prefix is one header; there is no single variable for all headers."""


_PASSWORD_IN_URL = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")


@dataclass(frozen=True)
class SettingField:
    """One setting of a model of settings."""

    path: str
    """Attributes that lead to it, such as ``drain.timeout``."""
    env: str
    """Name of its environment variable."""
    keys: tuple[str, ...]
    """Keys that lead to it in the data given to pydantic: ``path``, unless there are aliases."""
    info: FieldInfo
    """What pydantic knows about it."""
    owner: type[BaseModel]
    """The class that declares it."""

    @property
    def types(self) -> tuple[Any, ...]:
        """The types it accepts, without None, unions taken apart."""
        return tuple(_flatten(self.info.annotation))

    @property
    def is_duration(self) -> bool:
        """Whether it is a ``timedelta``, written as a number of seconds in the environment."""
        return timedelta in self.types

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        secret = any(_origin(t) in {SecretStr, SecretBytes, Secret} for t in self.types)
        return secret or bool(self.extra.get("secret"))

    @property
    def is_list(self) -> bool:
        """Whether it holds several values, separated by commas in the environment."""
        return any(_origin(t) in {list, tuple, set, frozenset} for t in self.types)

    @property
    def is_json(self) -> bool:
        """Whether its environment variable holds JSON, for want of anything simpler."""
        return any(
            _origin(t) is dict or (isinstance(t, type) and issubclass(t, BaseModel))
            for t in self.types
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it accepts when these are few; empty when any value may do."""
        found: list[str] = []
        for accepted in self.types:
            if get_origin(accepted) is Literal:
                found.extend(str(value) for value in get_args(accepted))
            elif isinstance(accepted, type) and issubclass(accepted, Enum):
                found.extend(str(member.value) for member in accepted)
        return tuple(found)

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the field adds to its type: ``default``, ``unit``, ``secret``, ``empty``."""
        extra = self.info.json_schema_extra
        return extra if isinstance(extra, dict) else {}

    @property
    def unit(self) -> str:
        """Unit of its value; empty when it has none."""
        return "seconds" if self.is_duration else str(self.extra.get("unit", ""))

    @property
    def type_text(self) -> str:
        """What to write, such as ``a whole number`` or ``one of json, console``."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.is_duration:
            return "a number of seconds"
        if self.is_list:
            return "values separated by commas"
        names = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
        return next((names[t] for t in self.types if t in names), "text")

    @property
    def bounds(self) -> Mapping[str, Any]:
        """Its limits by kind: ``ge`` and ``le`` belong to the range, ``gt`` and ``lt`` do not."""
        bounds: dict[str, Any] = {}
        for constraint in _constraints(self.info):
            for kind in ("ge", "gt", "le", "lt"):
                limit = getattr(constraint, kind, None)
                if limit is not None:
                    bounds[kind] = limit
        return bounds

    @property
    def range_text(self) -> str:
        """Its range, such as ``1 to 60`` or ``more than 0``; empty when there is none."""
        bounds = {kind: _number(limit) for kind, limit in self.bounds.items()}
        if "ge" in bounds and "le" in bounds:
            return f"{bounds['ge']} to {bounds['le']}"
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        return ", ".join(f"{words[kind]} {limit}" for kind, limit in bounds.items())

    @property
    def default_text(self) -> str:
        """The default as one would write it; described in words when it depends on the machine."""
        if "default" in self.extra:
            return str(self.extra["default"])
        if self.info.is_required():
            return "required"
        return self.show(self.info.get_default(call_default_factory=False))

    def show(self, value: Any) -> str:
        """Write a value as one would set it: secrets masked, None and nothing as ``none``."""
        if value is None or value == {}:
            return "none"
        if isinstance(value, dict):
            return ", ".join(f"{k}: {MASK if self.is_secret else v}" for k, v in value.items())
        return MASK if self.is_secret else self._show_plain(value)

    def _show_plain(self, value: Any) -> str:
        if isinstance(value, (list, tuple, set, frozenset)):
            return ",".join(self.show(item) for item in value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Enum):
            return str(value.value)
        if isinstance(value, (int, float, timedelta)):
            return _number(value)
        return hide_password(str(value))


def hide_password(text: str) -> str:
    """Mask the password of a URL, since not everybody declares a URL as a secret."""
    return _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)


@functools.cache
def setting_fields(model: type[BaseModel]) -> Mapping[str, SettingField]:
    """Return every setting of a model by path, in the order of declaration.

    Args:
        model: A class of settings; names start with its ``env_prefix``, and each class nested in it
            adds its field's name.
    """
    prefix = str(model.model_config.get("env_prefix", ""))
    return {field.path: field for field in _walk(model, prefix.upper(), (), ())}


def env_name(path: str) -> str:
    """Return the environment variable of a setting of `Settings`.

    Args:
        path: Attributes that lead to it, such as ``drain.timeout``.
    """
    return setting_fields(Settings)[path].env


def helm_name(path: str) -> str:
    """Return the name of a setting of `Settings` in Helm values: camel case, ending in its unit.

    Args:
        path: Attributes that lead to it, such as ``drain.timeout``.
    """
    words = path.replace(".", "_").split("_")
    if setting_fields(Settings)[path].is_duration:
        words.append("seconds")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _walk(
    model: type[BaseModel], prefix: str, path: tuple[str, ...], keys: tuple[str, ...]
) -> Iterator[SettingField]:
    for name, info in model.model_fields.items():
        here = (*path, name)
        alias = _alias(info)
        key = (*keys, alias or name)
        group = _group(info.annotation)
        if group is not None:
            own_prefix = getattr(group, "env_prefix", None)
            yield from _walk(group, own_prefix or f"{prefix}{name.upper()}_", here, key)
            continue
        # An alias is the whole name of the variable, as it is in pydantic-settings.
        env = alias.upper() if alias else f"{prefix}{name.upper()}"
        if not alias and timedelta in _flatten(info.annotation):
            env = f"{env}_SECONDS"
        yield SettingField(".".join(here), env, key, info, model)


def _alias(info: FieldInfo) -> str | None:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
    return alias if isinstance(alias, str) else None


def _group(annotation: Any) -> type[BaseModel] | None:
    types = list(_flatten(annotation))
    if len(types) == 1 and isinstance(types[0], type) and issubclass(types[0], BaseModel):
        return types[0]
    return None


def _flatten(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _flatten(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for argument in get_args(annotation):
            yield from _flatten(argument)
    elif annotation is not type(None):
        yield annotation


def _origin(annotation: Any) -> Any:
    return get_origin(annotation) or annotation


def _constraints(info: FieldInfo) -> Iterator[Any]:
    """Yield the constraints of a field, and those inside ``Annotated[...] | None``."""
    yield from info.metadata
    stack = [info.annotation]
    while stack:
        annotation = stack.pop()
        if get_origin(annotation) is Annotated:
            for extra in get_args(annotation)[1:]:
                yield from extra.metadata if isinstance(extra, FieldInfo) else [extra]
        elif get_origin(annotation) in {Union, UnionType}:
            stack.extend(get_args(annotation))


def _number(value: Any) -> str:
    if isinstance(value, timedelta):
        return seconds(value)
    return str(value).removesuffix(".0")
