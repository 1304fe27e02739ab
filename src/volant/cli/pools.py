"""``volar pools``: the group, and its short commands."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Session, complete_plugins, pass_session
from volant.core.errors import InvalidInput
from volant.core.manifest import MAX_POOL
from volant.core.resource import to_wire

_HEADER = ("PLUGIN", "WANTED", "PARKED", "RESERVED", "MESSAGE")


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar pools list
      volar pools set nginx 3
      volar pools set nginx --default
    """,
)
def pools() -> None:
    """Keep clones of a plugin started and paused, so that a create takes one instead of starting it."""


@pools.command(name="list", epilog="\b\nExamples:\n  volar pools list\n  volar pools list --json")
@format_option("table", "json", "name")
@pass_session
def list_(session: Session, output: str) -> None:
    """List pools. RESERVED is the memory that their clones may take."""
    found = session.client.pools.list()
    if output == "json":
        print_document({"items": found})
    elif output == "name":
        for pool in found:
            click.echo(pool["plugin"])
    elif not found:
        click.echo("no plugin keeps a pool; have one kept: volar pools set PLUGIN COUNT", err=True)
    else:
        print_table(_HEADER, (_row(pool) for pool in found))


@pools.command(
    name="set", epilog="\b\nExamples:\n  volar pools set nginx 3\n  volar pools set nginx 0\n  volar pools set nginx --default"
)
@click.argument("plugin", shell_complete=complete_plugins)
@click.argument("count", type=click.IntRange(0, MAX_POOL), required=False)
@click.option("--default", "as_default", is_flag=True, help="As many as the plugin's manifest says.")
@format_option("table", "json", "name")
@pass_session
def set_(session: Session, plugin: str, count: int | None, as_default: bool, output: str) -> None:
    """Keep COUNT clones of PLUGIN ready to be taken; 0 keeps none."""
    if (count is None) != as_default:
        raise InvalidInput("say how many, or --default", hint=f"volar pools set {plugin} 3")
    changed = session.client.pools.set(plugin, count)
    if output == "json":
        print_document(to_wire(changed))
    elif output == "name":
        click.echo(changed.name)
    else:
        wanted = changed.wanted_pool
        click.echo(
            f"{plugin} keeps {wanted} {'clone' if wanted == 1 else 'clones'} ready" if wanted else f"{plugin} keeps no pool"
        )


def _row(pool: dict[str, Any]) -> list[str]:
    return [pool["plugin"], str(pool["wanted"]), str(pool["parked"]), f"{pool['reserved_mb']} MiB", pool["message"] or "-"]
