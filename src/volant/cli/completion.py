"""``volar completion``: what a shell reads to complete commands, options and names."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_VOLAR_COMPLETE"


@click.command(
    epilog="""
    \b
    Examples:
      eval "$(volar completion bash)"                                      (for this shell)
      volar completion bash > /etc/bash_completion.d/volar                 (for everybody)
      volar completion zsh > "${fpath[1]}/_volar"
      volar completion fish > ~/.config/fish/completions/volar.fish
    """
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL. Names of VMs, plugins and contexts are completed too."""
    click.echo(render_completion(ctx.find_root().command, shell))


def render_completion(program: click.Command, shell: str) -> str:
    """The script for ``bash``, ``zsh`` or ``fish``; it needs nothing else to be set up."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    maker = found(program, {}, "volar", VARIABLE)
    # Made from the template alone: source() of bash runs bash to find its version.
    return str(maker.source_template % maker.source_vars())
