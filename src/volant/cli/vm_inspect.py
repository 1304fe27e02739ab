"""``volar vms inspect``."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from volant.cli.measure import format_size
from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.core.security import Finding, ProcessSecurity

_HEADER = ("WHAT", "FOUND", "VERDICT", "WHY")
_VALUE_CHARACTERS = 100
"""Longer ones are whole in --json."""

WEAK = 1
"""The exit code when something is weak and the caller asked for a check."""


@click.command(
    epilog="""
    \b
    Examples:
      volar vms inspect web
      volar vms inspect web --json | jq .machine
      volar vms inspect web --security
      volar vms inspect web --security --check || echo look closer
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("--security", is_flag=True, help="Show how the VM process is kept in, as the kernel says.")
@click.option("--check", is_flag=True, help="With --security: exit with 1 when anything is weak.")
@format_option("table", "json")
@pass_session
def inspect(session: Session, name: str, security: bool, check: bool, output: str) -> None:
    """Show all that there is of the VM NAME: as asked, as it is, and what its host has of it."""
    if check and not security:
        raise click.UsageError("--check goes with --security")
    if security:
        found = session.client.inspections.security(name)
        if output == "json":
            print_document({"name": name, "weak": len(found.weaknesses), **msgspec.to_builtins(found)})
        else:
            _print_security(found)
        if check and found.weaknesses:
            raise Ended(WEAK)
        return
    document = session.client.inspections.inspect(name)
    if output == "json":
        print_document(document)
    else:
        _print_inspection(document)


def _print_security(found: ProcessSecurity) -> None:
    sections = (
        (f"VM process (pid {found.pid})", found.process),
        (f"Holder (pid {found.holder_pid})", found.holder),
        ("Limits", found.limits),
    )
    for title, findings in sections:
        if findings:
            click.echo(title)
            print_table(_HEADER, (_row(finding) for finding in findings))
            click.echo()
    if found.usage:
        click.echo("Used so far")
        print_table(("WHAT", "AMOUNT"), ((key, _amount(key, value)) for key, value in found.usage.items()))
        click.echo()
    weak = len(found.weaknesses)
    click.echo("nothing is weak" if not weak else f"{weak} weak: {', '.join(finding.name for finding in found.weaknesses)}")


def _row(finding: Finding) -> tuple[str, str, str, str]:
    short = finding.value if len(finding.value) <= _VALUE_CHARACTERS else f"{finding.value[: _VALUE_CHARACTERS - 1]}…"
    return finding.name, short, finding.verdict, finding.why


def _amount(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return format_size(int(value))
    return f"{value:.2f} s" if name.endswith("_s") else str(value)


def _print_inspection(document: dict[str, Any]) -> None:
    vm, machine, security = document["vm"], document["machine"] or {}, document["security"]
    rows = [
        ("name", vm["name"]),
        ("uid", vm["uid"]),
        ("plugin", vm["plugin"]),
        ("phase", vm["status"]["phase"]),
        ("process", document["run_state"] if security is None else f"{document['run_state']}, pid {security['pid']}"),
        ("started", document["started_at"] or "-"),
        ("holder", "-" if security is None else f"pid {security['holder_pid']}"),
        ("hypervisor", f"{machine.get('hypervisor', '-')} {machine.get('hypervisor_version', '')}".strip()),
        ("accelerator", machine.get("accelerator", "-")),
        ("machine type", machine.get("machine_type") or "-"),
        ("cores", machine.get("cpu_cores", "-")),
        ("memory", f"{machine['memory_mib']} MiB" if machine else "-"),
        ("template", (machine.get("base") or "")[:12] or "-"),
        ("run", machine.get("run_id", "-")),
        ("state", document["state_directory"]),
        ("sockets", document["socket_directory"]),
    ]
    print_table(("WHAT", "VALUE"), ((name, str(value)) for name, value in rows))
    files = [(file["path"], format_size(file["size_bytes"]), format_size(file["allocated_bytes"])) for file in document["files"]]
    if files:
        click.echo()
        print_table(("FILE", "SIZE", "ON DISK"), files)
    click.echo()
    click.echo("spec, status, machine and command in full: --json; how it is kept in: --security")
