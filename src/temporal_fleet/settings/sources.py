"""Reads single settings from the environment, ``*_FILE`` files and a directory of secrets.

Nothing is interpreted here: a value is a text and where it was found. Problems are collected, never
raised, so that an operator sees all of them at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from temporal_fleet.errors import Problem

SECRETS_DIR = "FLEET_SECRETS_DIR"
"""Variable that names a directory with one file per setting, such as a mounted Kubernetes
secret."""

ENVIRONMENT = "the environment"

# Kubernetes gives every pod variables for every Service of its namespace; a Service named
# "fleet" or "temporal" would otherwise look like a misspelt setting.
# Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


class Unreadable(str):
    """Stands for a value that could not be read; its problem is already reported."""

    __slots__ = ()


@dataclass(frozen=True)
class Found:
    """A value as it was written, and where."""

    value: object
    """The text; already interpreted when it comes from a TOML profile."""
    source: str
    """Where it was found, for ``fleet settings show``: a variable, ``file /run/…``, a profile."""
    file: Path | None = None
    """The file that holds the value; None when no file does."""

    def where(self, subject: str) -> str:
        """Return where it was found, for a problem whose subject is a variable's name."""
        return ENVIRONMENT if self.source == subject else self.source


class Sources:
    """Where settings are looked up, and the problems met on the way.

    Args:
        environ: Environment variables.

    Attributes:
        environ: Environment variables.
        problems: Problems found so far.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        self._secrets = self._list_secrets()

    def find(self, name: str) -> Found | None:
        """Look up one setting: its variable, its ``_FILE`` variable, the secrets directory.

        An empty variable counts as not set: templates write one for every value left out.

        Args:
            name: Environment variable of the setting.

        Returns:
            What was found; None when the setting is nowhere. A file that cannot be read is reported
            and found as `Unreadable`.
        """
        text, file = self.environ.get(name, ""), self.environ.get(f"{name}_FILE", "")
        if text.strip() and file.strip():
            self.problems.append(
                Problem(
                    name,
                    f"is set together with {name}_FILE",
                    ENVIRONMENT,
                    "Keep one of the two.",
                )
            )
            return Found(Unreadable(), name)
        if text.strip():
            # A Secret made with `echo` ends in a line break, and no worker polls "orders" with one.
            return Found(text.strip(), name)
        if file.strip():
            return self._read(Path(file), f"{name}_FILE", ENVIRONMENT)
        if secret := self._secrets.get(name):
            return self._read(secret, name, f"{SECRETS_DIR}={secret.parent}")
        return None

    def is_empty(self, name: str) -> bool:
        """Tell whether a variable is there, but empty."""
        return name in self.environ and not self.environ[name].strip()

    def names(self, prefix: str) -> dict[str, str]:
        """Return all names in use that start with a prefix, in any case, and where each is set."""
        names = {
            name: ENVIRONMENT
            for name, value in self.environ.items()
            if name.upper().startswith(prefix) and not _is_service_link(name, value)
        }
        for name, file in self._secrets.items():
            if name.startswith(prefix):
                names[name] = f"file {file}"
        return names

    def report_unknown(self, prefix: str, known: Collection[str]) -> None:
        """Report every name with a prefix that is no setting, with the setting it most resembles.

        Args:
            prefix: Start of the names to look at, such as ``FLEET_``.
            known: Names of settings, with any prefix.
        """
        for name, where in self.names(prefix).items():
            if name not in known and name.removesuffix("_FILE") not in known:
                closest = closest_name(name.upper(), known, prefix)
                cure = f"Did you mean {closest}?" if closest else "Remove it, or correct its name."
                self.problems.append(Problem(name, "is not a setting", where, cure))

    def _list_secrets(self) -> dict[str, Path]:
        directory = self.environ.get(SECRETS_DIR, "").strip()
        if not directory:
            return {}
        try:
            # Kubernetes keeps the real files in hidden directories beside the names.
            files = [f for f in sorted(Path(directory).iterdir()) if not f.name.startswith(".")]
        except OSError as exc:
            self.problems.append(_unreadable(SECRETS_DIR, directory, exc.strerror, ENVIRONMENT))
            return {}
        # Keys of a Secret are often written with hyphens, which no variable's name may hold.
        return {file.name.upper().replace("-", "_"): file for file in files if file.is_file()}

    def _read(self, file: Path, subject: str, where: str) -> Found:
        reason: str | None
        try:
            text = file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            text, reason = "", "it is not UTF-8 text"
        except OSError as exc:
            text, reason = "", exc.strerror
        else:
            reason = None if text else "it is empty"
        if reason:
            self.problems.append(_unreadable(subject, str(file), reason, where))
        return Found(text or Unreadable(), f"file {file}", file)


def closest_name(name: str, known: Iterable[str], prefix: str, cutoff: float = 0.6) -> str | None:
    """Find the name that somebody most likely meant.

    Args:
        name: The name that was used.
        known: The names there are.
        prefix: What is ignored at the start of all names, since everything resembles it.
        cutoff: How much of the rest must be alike, 0 to 1.
    """
    candidates = {candidate.removeprefix(prefix): candidate for candidate in known}
    matches = difflib.get_close_matches(name.removeprefix(prefix), candidates, n=1, cutoff=cutoff)
    return candidates[matches[0]] if matches else None


def is_service_url(text: str) -> bool:
    """Tell whether Kubernetes made a value for a Service, as it may for FLEET_HEALTH_PORT."""
    return _SERVICE_URL.match(text) is not None


def _is_service_link(name: str, value: str) -> bool:
    return _SERVICE_LINK.fullmatch(name) is not None or (
        name.endswith("_PORT") and is_service_url(value)
    )


def _unreadable(subject: str, path: str, reason: str | None, where: str) -> Problem:
    return Problem(
        subject,
        f"'{path}' cannot be read: {reason or 'unknown reason'}",
        where,
        "Mount the file, or correct the path.",
    )
