"""``volar plugins``: the group, and its short commands."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "install": Entry("volant.cli.plugin_install:install", "Install a plugin, or another version of one."),
        "list": Entry("volant.cli.plugin_read:list_", "List plugins."),
        "show": Entry("volant.cli.plugin_read:show", "Show one plugin."),
        "versions": Entry("volant.cli.plugin_versions:versions", "List the versions of a plugin."),
        "upgrade": Entry("volant.cli.plugin_install:upgrade", "Have a plugin's name mean a newer version."),
        "rollback": Entry("volant.cli.plugin_versions:rollback", "Go back to the version before."),
        "default": Entry("volant.cli.plugin_versions:default", "Choose the version that a plugin's name means."),
        "enable": Entry("volant.cli.plugin_versions:enable", "Let VMs be made from plugins again."),
        "disable": Entry("volant.cli.plugin_versions:disable", "Refuse new VMs from plugins."),
        "artifacts": Entry("volant.cli.plugin_read:artifacts", "List the files of a plugin."),
        "search": Entry("volant.cli.plugin_index:search", "Search the plugin indexes."),
        "index": Entry("volant.cli.plugin_index:index", "Say which plugin indexes there are."),
        "remove": Entry("volant.cli.plugin_remove:remove", "Remove plugins, or versions of them."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar plugins install out/nginx
      volar plugins list
      volar plugins upgrade nginx out/nginx-2
      volar plugins rollback nginx
      volar plugins remove nginx
    """,
)
def plugins() -> None:
    """Install, list, upgrade and remove plugins: what VMs are made from."""
