"""The error tree and the exit codes of the ``fleet`` command.

A class exists only where somebody handles it differently. Every message says what is wrong, the value,
where it was set and what to do; several problems of one kind are reported together, never one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from typing_extensions import override


class ExitCode(IntEnum):
    """What the ``fleet`` command's exit status means; ``kubectl describe pod`` shows it.

    A drained worker exits with 0 although a signal ended it: in Kubernetes 0 on SIGTERM is the clearer
    message (see ``docs/decisions``).
    """

    OK = 0
    """Finished; for a worker: drained, nothing was abandoned."""
    CRASH = 1
    """Failed after start-up; for ``fleet start``: a line was rejected or a workflow failed; for ``fleet
    rollout``: refused, not done, or not so in time."""
    USAGE = 2
    """The command line is wrong."""
    STARTUP = 3
    """Could not start: settings, import, connection, namespace, registration, or a file that cannot be used."""
    ABANDONED = 4
    """The drain took longer than its timeout and its margin: running work was abandoned."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, told so that it can be mended without reading any code."""

    subject: str
    """What is wrong: a setting's environment name, a workflow or activity, a workload."""
    message: str
    """What is wrong with it, with the offending value (masked when it is secret)."""
    source: str | None = None
    """Where it was set (an environment variable, a file and line); None when nowhere."""
    cure: str | None = None
    """What to do; None when the message already says it."""

    @override
    def __str__(self) -> str:
        """Return the problem as one line: subject, message, source in brackets, cure."""
        text = f"{self.subject}: {self.message}"
        if self.source:
            text += f" (set in {self.source})"
        return f"{text}. {self.cure}" if self.cure else text


class FleetError(Exception):
    """Base of every error that temporal-fleet raises on purpose.

    Attributes:
        exit_code: The status with which the ``fleet`` command ends when this error reaches it.
    """

    exit_code = ExitCode.STARTUP


class _ProblemsError(FleetError):
    """An error made of problems that were all found before it was raised."""

    heading = ""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{self.heading}: {len(self.problems)} {noun}\n{lines}")


class SettingsError(_ProblemsError):
    """Settings are wrong; carries every problem at once.

    Attributes:
        problems: All problems found, in the order of the settings.
    """

    heading = "settings"


class WorkloadError(_ProblemsError):
    """A workload cannot be run as it is declared; carries every problem at once.

    Attributes:
        problems: All problems found.
    """

    heading = "workload"


class RoutingFileError(_ProblemsError):
    """A routing file cannot be used; carries every problem at once.

    Attributes:
        problems: All problems found.
    """

    heading = "routing file"


class RolloutError(FleetError):
    """A change of the routing or of a build is refused, or did not work; carries every reason.

    Attributes:
        deployment: Name of the Worker Deployment.
        reasons: Each says what is wrong and what to do.
    """

    exit_code = ExitCode.CRASH

    def __init__(self, deployment: str, reasons: Sequence[str]) -> None:
        self.deployment = deployment
        self.reasons = tuple(reasons)
        lines = "\n".join(f"  - {reason}" for reason in self.reasons)
        super().__init__(f"worker deployment {deployment!r}: nothing more is done\n{lines}")


class ValuesFileError(FleetError):
    """A values file cannot be read, or cannot be edited without a risk for the rest of it."""


class ValuesRefusedError(FleetError):
    """A values file is not edited as asked, because builds would get in each other's way."""

    exit_code = ExitCode.CRASH


class WorkloadNotFoundError(FleetError):
    """No installed distribution provides the workload that was asked for."""


class WorkloadImportError(FleetError):
    """A workload is installed, but importing its code failed; the cause is chained."""


class ConnectionFailedError(FleetError):
    """The Temporal server could not be reached or refused us until the deadline passed."""


class DecryptionError(FleetError):
    """A payload cannot be decrypted; the message names the key that it needs."""

    exit_code = ExitCode.CRASH


class PortInUseError(FleetError):
    """A port that somebody must know is taken; the message names the port and its setting."""
