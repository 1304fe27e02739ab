"""``volar snapshots``: the group."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "create": Entry("volant.cli.snapshot_write:create", "Take a snapshot of a VM."),
        "list": Entry("volant.cli.snapshot_read:list_", "List snapshots."),
        "show": Entry("volant.cli.snapshot_read:show", "Show one snapshot."),
        "restore": Entry("volant.cli.snapshot_restore:restore", "Put a VM back to a snapshot, or make a new one from it."),
        "delete": Entry("volant.cli.snapshot_write:delete", "Delete snapshots; what began from them stays."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar snapshots create web --name before-upgrade
      volar snapshots list
      volar snapshots restore before-upgrade
      volar snapshots restore before-upgrade --as web2
    """,
)
def snapshots() -> None:
    """Keep what a VM is at one moment, with its memory or its disk alone, and go back to it."""
