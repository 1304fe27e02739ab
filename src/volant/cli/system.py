"""``volar system`` and ``volar version``."""

from __future__ import annotations

import click

from volant import __version__
from volant.cli.lazy import Entry, LazyGroup
from volant.cli.measure import format_size
from volant.cli.output import print_document
from volant.cli.session import Session, pass_session
from volant.core.errors import VolantError


@click.group(
    cls=LazyGroup,
    entries={
        "info": Entry("volant.cli.system_queues:info", "Show volantd's version, and which node leads."),
        "queues": Entry("volant.cli.system_queues:queues", "Show what waits in volantd's controllers, and why."),
    },
    no_args_is_help=True,
    epilog="\b\nExamples:\n  volar system summary\n  volar system queues\n  volar system drain",
)
def system() -> None:
    """Look at volantd as a whole, and drain its host."""


@system.command(epilog="\b\nExamples:\n  volar system summary --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def summary(session: Session, as_json: bool) -> None:
    """Show how many there are of what."""
    found = session.client.system.summary()
    if as_json:
        print_document(found)
        return
    for name, value in found.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) or "-" if isinstance(value, dict) else str(value)
        click.echo(f"{name.replace('_', ' ') + ':':<16} {shown}")


@system.command(epilog="\b\nExamples:\n  volar system drain")
@pass_session
def drain(session: Session) -> None:
    """Stop every VM, in an orderly way, and cordon every node: until one is uncordoned nothing new is placed on it, and
    deployments leave there what stands still. A VM of one's own starts when somebody starts it.

    To take VMs away from one node of several, within the budgets of their deployments: volar nodes drain NODE.
    """
    count = session.client.system.drain()
    click.echo(f"{count} {'VM is' if count == 1 else 'VMs are'} stopping" if count else "no VM was running")
    click.echo("deployments stay down until: volar nodes uncordon NODE")


@system.command(epilog="\b\nExamples:\n  volar system prune --dry-run\n  volar system prune")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def prune(session: Session, dry_run: bool, as_json: bool) -> None:
    """Remove files that neither a plugin nor a VM needs. What came within the last hour stays."""
    gone = session.client.artifacts.prune(dry_run=dry_run)
    if as_json:
        print_document({"items": list(gone)})
        return
    for one in gone:
        click.echo(f"{one['digest']}  {format_size(one['size_bytes'])}")
    size = format_size(sum(one["size_bytes"] for one in gone))
    would = "would go" if dry_run else "went"
    click.echo(f"{len(gone)} {'file' if len(gone) == 1 else 'files'} {would}, {size}" if gone else "there is nothing to remove")


@system.command(epilog="\b\nExamples:\n  volar system token --rotate > lab.token")
@click.option("--rotate", is_flag=True, required=True, help="Make a new one; the old one is worth nothing from then on.")
@pass_session
def token(session: Session, rotate: bool) -> None:
    """Make a new token for who connects by TCP, and print it."""
    click.echo(session.client.system.rotate_token())


@click.command(epilog="\b\nExamples:\n  volar version")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def version(session: Session, as_json: bool) -> None:
    """Print the versions of volar and, when it answers, of volantd."""
    try:
        server = str(session.client.system.health()["version"])
    except VolantError:
        server = ""
    if as_json:
        print_document({"volar": __version__, "volantd": server or None})
        return
    click.echo(f"volar    {__version__}")
    click.echo(f"volantd  {server or 'does not answer'}")
