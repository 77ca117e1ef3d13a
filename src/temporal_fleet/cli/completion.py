"""``fleet completion``: what makes a shell complete ``fleet``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from temporal_fleet.cli.command import Command


@click.command(
    cls=Command,
    examples=[
        ('eval "$(fleet completion bash)"', "in ~/.bashrc"),
        ('eval "$(fleet completion zsh)"', "in ~/.zshrc"),
        ("fleet completion fish > ~/.config/fish/completions/fleet.fish", "once"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete fleet.

    Commands, options and the names of installed workloads are completed.
    """
    found = get_completion_class(shell)
    assert found is not None
    root = context.find_root()
    # Without `source`, click would start bash to find out its release.
    made = found(root.command, {}, "fleet", "_FLEET_COMPLETE")
    click.echo(made.source_template % made.source_vars())
