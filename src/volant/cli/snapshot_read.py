"""``volar snapshots list`` and ``show``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.measure import format_key, format_since, format_size
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Session, complete_snapshots, pass_session
from volant.client.client import Client
from volant.core.errors import NotFound
from volant.core.resource import to_wire
from volant.core.snapshot import Snapshot

LINEAGE_MAX = 20


@click.command(name="list", epilog="\b\nExamples:\n  volar snapshots list\n  volar snapshots list -o wide")
@format_option()
@pass_session
def list_(session: Session, output: str) -> None:
    """List snapshots."""
    snapshots = session.client.snapshots.list()
    nothing = "there are no snapshots; take one: volar snapshots create VM"
    print_resources(snapshots, output, lambda wide: _tabulate(snapshots, wide), nothing)


@click.command(epilog="\b\nExamples:\n  volar snapshots show before-upgrade\n  volar snapshots show before-upgrade --json")
@click.argument("name", shell_complete=complete_snapshots)
@format_option("table", "json", "name")
@pass_session
def show(session: Session, name: str, output: str) -> None:
    """Show the snapshot NAME, and which snapshots it descends from."""
    snapshot = session.client.snapshots.get(name)
    if output == "json":
        print_document(to_wire(snapshot))
    elif output == "name":
        click.echo(snapshot.name)
    else:
        print_fields(_describe(snapshot, _read_lineage(session.client, snapshot)))


def _tabulate(snapshots: Sequence[Snapshot], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "VM", "PHASE", "SIZE", "MEMORY", "AGE", "PARENT"] + (["PLUGIN", "TEMPLATE", "MESSAGE"] if wide else [])
    return header, (_row(snapshot, wide) for snapshot in snapshots)


def _row(snapshot: Snapshot, wide: bool) -> list[str]:
    status = snapshot.status
    row = [
        snapshot.name,
        snapshot.spec.vm,
        "Deleting" if snapshot.deleting else status.phase,
        format_size(status.size_bytes) if status.phase == "Ready" else "-",
        "yes" if snapshot.spec.memory else "no",
        format_since(status.taken_at or snapshot.meta.created_at),
        status.parent or "-",
    ]
    if wide:
        row += [status.plugin or "-", format_key(status.template) or "-", status.message or "-"]
    return row


def _describe(snapshot: Snapshot, lineage: Sequence[str]) -> Iterable[tuple[str, str]]:
    status = snapshot.status
    yield "Name", snapshot.name
    yield "VM", snapshot.spec.vm
    yield "Phase", status.phase
    if status.message:
        yield "Message", f"{status.reason}: {status.message}" if status.reason else status.message
    yield "Holds", "memory and disk" if snapshot.spec.memory else "the disk"
    if status.phase == "Ready":
        yield "On disk", format_size(status.size_bytes)
    if status.plugin:
        yield "Plugin", status.plugin
        yield (
            "VM's size",
            f"{status.cpu_cores} CPU, {status.memory_mb} MiB of memory, {status.disk_mb} MiB of disk ({status.root})",
        )
    if status.template:
        yield "Template", format_key(status.template)
    if lineage:
        yield "Descends", " < ".join([snapshot.name, *lineage])
    if status.paused_ms is not None:
        yield "Paused", f"{status.paused_ms} ms"
    if status.taken_at:
        yield "Taken", f"{format_since(status.taken_at)} ago"
    if snapshot.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(snapshot.meta.labels.items()))


def _read_lineage(client: Client, snapshot: Snapshot) -> list[str]:
    """Its parent, the parent's parent and so on, as far as they are known; one that was deleted is the last."""
    found: list[str] = []
    parent = snapshot.status.parent
    while parent and parent not in found and len(found) < LINEAGE_MAX:
        found.append(parent)
        try:
            parent = client.snapshots.get(parent).status.parent
        except NotFound:
            break
    return found
