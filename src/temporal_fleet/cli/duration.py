"""Durations on the command line: ``30s``, ``5m``, ``1h30m``, or a number of seconds as in settings."""

from __future__ import annotations

import re
from datetime import timedelta

import click
from typing_extensions import override

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class DurationType(click.ParamType[timedelta]):
    """A duration; a number without a unit is one of seconds, as it is in environment variables."""

    name = "duration"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        text = f"{value}s" if _NUMBER.fullmatch(str(value)) else str(value)
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{text!r} is not a duration. Write it as 30s, 5m or 1h30m", param, ctx)
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


DURATION = DurationType()
