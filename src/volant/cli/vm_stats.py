"""``volar vms stats``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.measure import format_size
from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.core.errors import NotFound, VolantError, WrongState

_HEADER = ("NAME", "CPU", "PRIVATE", "SHARED", "PROCESS", "GUEST", "LOAD")


@click.command(
    epilog="""
    \b
    Examples:
      volar vms stats
      volar vms stats web db
      volar vms stats --json | jq '.items | map(.memory_private_bytes) | add'

    \b
    CPU      processor seconds since it began
    PRIVATE  of the guest's memory, what is its own
    SHARED   of the guest's memory, what it shares with others of its template
    PROCESS  what the whole VM process has to itself, the guest's memory included
    GUEST    what the guest says it uses, and of how much
    LOAD     the guest's load average of a minute
    """
)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_vms)
@format_option("table", "json")
@pass_session
def stats(session: Session, names: tuple[str, ...], output: str) -> None:
    """Show what the VMs NAME... use, by the host kernel's own account; all that run when none is named."""
    found: list[dict[str, Any]] = []
    failed = 0
    for name in dict.fromkeys(names) if names else _list_names(session):
        try:
            found.append(session.client.vms.stats(name))
        except VolantError as error:
            if not names and isinstance(error, (WrongState, NotFound)):
                continue  # it does not run, or went since it was listed
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if output == "json":
        print_document(found[0] if len(names) == 1 and found else {"items": found})
    elif found:
        print_table(_HEADER, (_row(one) for one in found))
    elif not failed:
        click.echo("no VM runs", err=True)
    if failed:
        raise Ended(failed)


def _list_names(session: Session) -> Iterable[str]:
    return [vm.name for vm in session.client.vms.list()]


def _row(found: dict[str, Any]) -> list[str]:
    total, available = found["guest_memory_total_bytes"], found["guest_memory_available_bytes"]
    return [
        found["name"],
        f"{found['cpu_s']:.1f} s",
        format_size(found["memory_private_bytes"]),
        format_size(found["memory_shared_bytes"]),
        format_size(found["process_private_bytes"]),
        "-" if total is None or available is None else f"{format_size(total - available)} of {format_size(total)}",
        "-" if found["guest_load1"] is None else f"{found['guest_load1']:.2f}",
    ]
