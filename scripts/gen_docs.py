"""Writes docs/reference from the source, or with --check says which of its pages are stale."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from temporal_fleet import errors
from temporal_fleet.cli import fleet
from temporal_fleet.cli.command import Command, Group
from temporal_fleet.cli.start import TERMINATED
from temporal_fleet.settings.reference import reference_markdown as settings_page
from temporal_fleet.stop_signals import INTERRUPTED
from temporal_fleet.telemetry.metrics.reference import reference_markdown as metrics_page

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


HEADER = "<!-- Generated from the source by `make docs`; do not edit. -->\n\n"


def main() -> int:
    """Write or check every page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    if not parser.parse_args().check:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for page in PAGES:
            (REFERENCE / page).write_text(render(page), encoding="utf-8")
        return 0
    stale = [f"docs/reference/{page}" for page in PAGES if not _is_fresh(page)]
    print(f"not fresh: {', '.join(stale)}. Run: make docs" if stale else "docs/reference is fresh")
    return 1 if stale else 0


def render(page: str) -> str:
    """Return what a page has to say."""
    return HEADER + PAGES[page]().rstrip() + "\n"


def _is_fresh(page: str) -> bool:
    file = REFERENCE / page
    return file.exists() and file.read_text(encoding="utf-8") == render(page)


def cli_page() -> str:
    """Return the help of every command."""
    introduction = (
        "# Commands\n\n"
        "The help of every command, as `fleet COMMAND --help` prints it. `fleet completion` makes a "
        "shell complete them. See also: [settings](settings.md), [exit codes](exit-codes.md).\n"
    )
    return "\n".join([introduction, *_command_sections(fleet, ("fleet",))])


def _command_sections(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    # A fixed width: the page must not depend on the terminal in which it was made.
    context = click.Context(
        command, info_name=" ".join(path), terminal_width=88, max_content_width=88
    )
    context.help_option_names = ["-h", "--help"]
    if isinstance(command, (Command, Group)):
        yield f"## {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _command_sections(each, (*path, name))


def exit_codes_page() -> str:
    """Return what the exit codes mean."""
    rows = [f"| {code.value} | {code.name} | {text} |" for code, text in _exit_codes()]
    return "\n".join(
        [
            "# Exit codes\n",
            "How `fleet` ends; `kubectl describe pod` shows it as the exit code of the container.\n",
            "| Code | Name | Meaning |",
            "| --- | --- | --- |",
            *rows,
            f"| {INTERRUPTED} | | Ctrl-C in a command that does not drain. |",
            f"| {TERMINATED} | | SIGTERM in `fleet start`, after its summary. |",
            "",
            "A signal is not a failure: a worker that was told to stop and drained ends with 0, not with "
            "the number of the signal.",
        ]
    )


def _exit_codes() -> Iterator[tuple[errors.ExitCode, str]]:
    """Yield each exit code with the string under it."""
    body = ast.parse(inspect.getsource(errors.ExitCode)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    name = ""
    for statement in body.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            texts[name] = " ".join(str(statement.value.value).split())
    for code in errors.ExitCode:
        yield code, texts[code.name].replace("``", "`")


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "cli.md": cli_page,
    "metrics.md": metrics_page,
    "exit-codes.md": exit_codes_page,
}

if __name__ == "__main__":
    sys.exit(main())
