"""``volar plugins``: the group, and its short commands."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "install": Entry("volant.cli.plugin_install:install", "Upload a plugin's files and install it."),
        "list": Entry("volant.cli.plugin_read:list_", "List plugins."),
        "show": Entry("volant.cli.plugin_read:show", "Show one plugin."),
        "remove": Entry("volant.cli.plugin_read:remove", "Remove plugins that no VM is made from."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar plugins install out/nginx
      volar plugins list
      volar plugins remove nginx
    """,
)
def plugins() -> None:
    """Install, list, show and remove plugins: what VMs are made from."""
