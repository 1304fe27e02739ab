"""``volar snapshots restore``."""

from __future__ import annotations

import click

from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_snapshots, pass_session
from volant.cli.vm_wait import Duration, describe_start, follow_vm, tell_failure
from volant.client.client import Client
from volant.core.errors import NotFound
from volant.core.resource import to_wire
from volant.core.snapshot import Snapshot
from volant.core.vm import VM


@click.command(
    epilog="""
    \b
    Examples:
      volar snapshots restore before-upgrade
      volar snapshots restore before-upgrade --as web2

    For a new VM with ports or settings of its own: volar vms create NAME --snapshot SNAPSHOT.
    """
)
@click.argument("name", shell_complete=complete_snapshots)
@click.option("--as", "new", metavar="VM", help="Make a new VM from it, which publishes no ports, and leave the old one alone.")
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait.")
@format_option("table", "json", "name")
@pass_session
def restore(session: Session, name: str, new: str | None, no_wait: bool, timeout: float, output: str) -> None:
    """Put the VM that the snapshot NAME was taken of back to it, and wait until it is ready.

    What the VM did since, in memory and on disk, is lost.
    """
    client = session.client
    snapshot = client.snapshots.get(name)
    vm = _put_back(client, snapshot) if new is None else _make_new(client, snapshot, new)
    if not no_wait:
        with show_progress(quiet=output != "table") as say:
            followed = follow_vm(client, vm, "ready", timeout, say)
        if followed is None:
            raise NotFound(f"{vm.name} was deleted in the meantime")
        vm = followed
    if output == "json":
        print_document(to_wire(vm))
    if not no_wait and not vm.status.ready:
        raise Ended(tell_failure(client, vm))
    if output == "name":
        click.echo(vm.name)
    elif output == "table":
        click.echo(f"{vm.name} is being restored" if no_wait else describe_start(vm))


def _put_back(client: Client, snapshot: Snapshot) -> VM:
    vm = client.vms.restore(snapshot.spec.vm, snapshot.name)
    age = format_since(snapshot.status.taken_at)
    click.echo(f"{vm.name} goes back to what it was {age} ago; what it did since is lost", err=True)
    return vm


def _make_new(client: Client, snapshot: Snapshot, name: str) -> VM:
    return client.vms.create({"name": name, "plugin": snapshot.status.plugin, "snapshot": snapshot.name, "ports": []})
