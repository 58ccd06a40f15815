"""`pullstatus completion`: what makes a shell complete our commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pullstatus.cli.output import say

SHELLS = ("bash", "fish", "zsh")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, flags and their values.

    For bash, in ~/.bashrc: eval "$(pullstatus completion bash)". zsh likewise, in ~/.zshrc.
    For fish: pullstatus completion fish > ~/.config/fish/completions/pullstatus.fish
    """
    completes = get_completion_class(shell)
    assert completes is not None
    root = context.find_root().command
    # The shell calls us by this variable; click has it from the program's name.
    say(completes(root, {}, "pullstatus", "_PULLSTATUS_COMPLETE").source())
