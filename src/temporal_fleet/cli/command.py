"""What all commands share: examples in the help, options, and how results are printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

Example = tuple[str, str]
"""A command line and what it does."""


_LONGEST_SENTENCE = 200
"""Characters that a command's line in a list of commands may have."""


@dataclass
class Invocation:
    """What the global options say; every command finds it as ``context.obj``."""

    debug: bool = False


class _WithExamples(click.Command):
    """A command whose help ends in examples.

    Args:
        examples: Command lines, each with what it does.
    """

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        # Not left to the group: click keeps the options of a command's first context forever.
        kwargs["context_settings"] = {
            "help_option_names": ["-h", "--help"],
            **(kwargs.get("context_settings") or {}),
        }
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    @override
    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the help, whole: lists of commands wrap it."""
        return super().get_short_help_str(max(limit, _LONGEST_SENTENCE))

    @override
    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below everything else."""
        with formatter.section("Examples"):
            formatter.write_dl(self.examples, col_max=48)


class Command(_WithExamples):
    """A command of ``fleet``."""


class Group(_WithExamples, click.Group):
    """A group of commands that lists them in the order in which they were added."""

    command_class = Command

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(self.commands)


def output_option(function: FunctionT) -> FunctionT:
    """Add ``--output text|json``."""
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="text for people, json for programs.",
    )(function)


def workload_argument(function: FunctionT) -> FunctionT:
    """Add the argument WORKLOAD, with completion from what is installed."""
    return click.argument("workload", shell_complete=complete_workload)(function)


def complete_workload(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the installed workloads that begin like this."""
    from temporal_fleet.workload import discover

    return [
        CompletionItem(name, help=entry.value)
        for name, entry in discover().items()
        if name.startswith(incomplete)
    ]
