"""What all groups of settings share: frozen, closed, and with rules between their fields.

A rule is checked after every field of its group is valid on its own. All broken rules of a group
are reported together, and each names settings by path in angle brackets (``<drain.timeout>``), so
that the loader can tell an operator the environment names and Python code sees the attribute paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

BROKEN_RULES = "broken_rules"
"""The pydantic error type under which broken rules arrive; its context holds them under
``rules``."""

ZERO = timedelta(0)

PositiveDuration = Annotated[timedelta, Field(gt=ZERO)]
"""A duration that is longer than nothing."""

_REFERENCE = re.compile(r"<([a-z_]+\.[a-z_]+)>")


@dataclass(frozen=True)
class BrokenRule:
    """Settings that are valid each on its own, and wrong together."""

    path: str
    """The setting that most likely has to change, such as ``drain.warning``."""
    message: str
    """What is wrong; may refer to settings as ``<group.field>``."""
    cure: str
    """What to do; may refer to settings as ``<group.field>``."""


def name_settings(text: str, name: Callable[[str], str]) -> str:
    """Replace every ``<group.field>`` in a rule's text.

    Args:
        text: The message or cure of a broken rule.
        name: Turns a path into the name the reader knows, such as the environment name.
    """
    return _REFERENCE.sub(lambda match: name(match[1]), text)


def raise_broken_rules(rules: list[BrokenRule]) -> None:
    """Raise pydantic's error for broken rules; do nothing when there is none."""
    if rules:
        text = "; ".join(name_settings(f"<{r.path}>: {r.message}", str) for r in rules)
        # Pydantic formats the template itself: the text is passed as a value, braces and all.
        raise PydanticCustomError(BROKEN_RULES, "{text}", {"text": text, "rules": rules})


def seconds(duration: timedelta) -> str:
    """Write a duration as the number of seconds an operator would type: ``30`` or ``0.25``."""
    return str(duration.total_seconds()).removesuffix(".0")


def exceeds(path: str, value: timedelta, other: str, limit: timedelta) -> BrokenRule:
    """Return the rule that a duration breaks which is longer than another one of its group.

    Args:
        path: The setting that is too long, such as ``drain.warning``.
        value: How long it is.
        other: Name of the field that contains it.
        limit: How long that one is.
    """
    other_path = f"<{path.partition('.')[0]}.{other}>"
    return BrokenRule(
        path,
        f"{seconds(value)} is more than {other_path}, which is {seconds(limit)}",
        f"Lower it, or raise {other_path}.",
    )


def name_mistake(name: str) -> tuple[str, str] | None:
    """Say what is wrong with a name that the server compares letter by letter, and what to write instead.

    Args:
        name: Name of a task queue, a Worker Deployment or a build, from settings or from code.

    Returns:
        The mistake and its cure; None when the name is usable.
    """
    if name == name.strip() and name.isprintable():
        return None
    usable = "".join(c for c in name if c.isprintable()).strip()
    cure = f"Use {usable!r}." if usable else "Give it a name."
    return "holds a line break or white space that is not part of a name", cure


def _check_name(name: str) -> str:
    if mistake := name_mistake(name):
        raise PydanticCustomError("name", mistake[0], {"cure": mistake[1]})
    return name


Name = Annotated[str, Field(min_length=1), AfterValidator(_check_name)]
"""A name that the server compares letter by letter, such as that of a task queue."""


class Group(BaseModel):
    """Base of the groups of settings: immutable and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield every rule between fields of this group that does not hold."""
        return iter(())

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        raise_broken_rules(list(self.broken_rules()))
        return self
