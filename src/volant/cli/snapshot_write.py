"""``volar snapshots create`` and ``delete``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from volant.cli.failure import FAILED, exit_code_of, print_error, print_volant_error
from volant.cli.measure import format_size
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_snapshots, complete_vms, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError
from volant.core.ids import NAME_MAX
from volant.core.resource import to_wire
from volant.core.snapshot import Snapshot


@click.command(
    epilog="""
    \b
    Examples:
      volar snapshots create web
      volar snapshots create web --name before-upgrade
      volar snapshots create db --disk-only --timeout 5m
    """
)
@click.argument("vm", shell_complete=complete_vms)
@click.option("--name", metavar="NAME", help="What to call it; VM-TIME unless said.")
@click.option(
    "--disk-only", is_flag=True, help="Leave out its memory: what starts from it boots. Its file system is frozen meanwhile."
)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait.")
@format_option("table", "json", "name")
@pass_session
def create(session: Session, vm: str, name: str | None, disk_only: bool, no_wait: bool, timeout: float, output: str) -> None:
    """Take a snapshot of VM, with its memory unless said, and wait until it was taken.

    VM stands still for a moment and goes on. One that sleeps is not woken.
    """
    called = name or name_snapshot(vm, datetime.now(UTC))
    with show_progress(quiet=output != "table" or no_wait) as say:
        say(f"{called}: being taken of {vm}")
        snapshot = session.client.snapshots.create(called, vm, memory=not disk_only, wait=not no_wait, timeout_s=timeout)
    if output == "json":
        print_document(to_wire(snapshot))
    if snapshot.status.phase == "Failed":
        print_error(f"{called} failed: {snapshot.status.message}", f"remove it: volar snapshots delete {called}")
        raise Ended(FAILED)
    if output == "name":
        click.echo(called)
    elif output == "table":
        click.echo(f"{called} is being taken" if no_wait else _describe_taken(snapshot))


@click.command(
    epilog="""
    \b
    Examples:
      volar snapshots delete before-upgrade
      volar snapshots list -o name | xargs volar snapshots delete
    """
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_snapshots)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")
@pass_session
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Delete the snapshots NAME...; VMs that began from them stay as they are."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            left = session.client.snapshots.delete(name, wait=not no_wait, timeout_s=timeout)
            click.echo(f"{name} is deleted" if left is None else f"{name} is being deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


def name_snapshot(vm: str, now: datetime) -> str:
    """``web-20260131t120000``; a name that is too long for that is cut."""
    moment = now.strftime("%Y%m%dt%H%M%S")
    return f"{vm[: NAME_MAX - len(moment) - 1].rstrip('-')}-{moment}"


def _describe_taken(snapshot: Snapshot) -> str:
    status = snapshot.status
    paused = "" if status.paused_ms is None else f", {snapshot.spec.vm} stood still for {status.paused_ms} ms"
    what = "" if snapshot.spec.memory else " of the disk"
    return f"{snapshot.name} is taken ({format_size(status.size_bytes)}{what}{paused})"
