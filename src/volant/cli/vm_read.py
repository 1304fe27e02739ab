"""``volar vms list`` and ``volar vms get``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Session, complete_vms, pass_session
from volant.core.duration import format_age
from volant.core.moment import parse_time
from volant.core.resource import to_wire
from volant.core.vm import VM


@click.command(
    name="list",
    epilog="""
    \b
    Examples:
      volar vms list
      volar vms list -l tier=web -o wide
      volar vms list --json | jq -r '.items[].status.addresses[0].ip'
    """,
)
@click.option("-l", "--label", "label", multiple=True, metavar="KEY=VALUE", help="Only those with it; may be repeated.")
@format_option()
@pass_session
def list_(session: Session, label: tuple[str, ...], output: str) -> None:
    """List VMs."""
    labels: dict[str, str] = {}
    if label:
        from volant.cli.vm_create import read_pairs

        labels = read_pairs(label, "--label")
    vms = session.client.vms.list(labels)
    nothing = (
        "there are no VMs with these labels" if label else "there are no VMs; make one: volar vms create NAME --plugin PLUGIN"
    )
    print_resources(vms, output, lambda wide: _tabulate(vms, wide), nothing)


@click.command(
    epilog="""
    \b
    Examples:
      volar vms get web
      volar vms get web --json | jq .status.start
    """
)
@click.argument("name", shell_complete=complete_vms)
@format_option()
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the VM NAME."""
    vm = session.client.vms.get(name)
    if output == "json":
        print_document(to_wire(vm))
    elif output == "name":
        click.echo(vm.name)
    else:
        print_fields(_describe(vm, output == "wide"))


def _tabulate(vms: Sequence[VM], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "PHASE", "READY", "IP", "PLUGIN", "RESTARTS", "AGE"]
    if wide:
        header += ["CPU", "MEMORY", "ISOLATION", "START", "PID", "NODE", "MESSAGE"]
    return header, (_row(vm, wide) for vm in vms)


def _row(vm: VM, wide: bool) -> list[str]:
    status = vm.status
    row = [
        vm.name,
        "Deleting" if vm.deleting else status.phase,
        "yes" if status.ready else "no",
        status.addresses[0].ip if status.addresses else "-",
        vm.spec.plugin,
        str(status.restarts),
        _age(vm.meta.created_at),
    ]
    if wide:
        row += [
            str(vm.spec.cpu_cores or "-"),
            f"{vm.spec.memory_mb} MiB",
            f"{status.isolation or '-'} ({status.accelerator or '-'})",
            _start_of(vm) or "-",
            str(status.pid or "-"),
            status.node or "-",
            status.message or "-",
        ]
    return row


def _describe(vm: VM, wide: bool) -> Iterable[tuple[str, str]]:
    status = vm.status
    yield "Name", vm.name
    yield "Phase", status.phase + (", ready" if status.ready else "")
    if status.message:
        yield "Message", f"{status.reason}: {status.message}" if status.reason else status.message
    for address in status.addresses:
        yield "Address", f"{address.ip}/{address.prefix_length} on {address.network}"
    yield "Plugin", vm.spec.plugin
    yield "Size", f"{vm.spec.cpu_cores} CPU, {vm.spec.memory_mb} MiB of memory, {vm.spec.disk_mb} MiB of disk ({vm.spec.root})"
    if status.hypervisor:
        yield "Runs on", f"{status.node}: {status.hypervisor} with {status.accelerator}, {status.isolation} isolation"
    if status.pid is not None:
        yield "Process", str(status.pid)
    if status.started_at:
        yield "Started", f"{_age(status.started_at)} ago" + (f" ({_start_of(vm)})" if _start_of(vm) else "")
    if status.workload.state != "unknown":
        yield (
            "Workload",
            f"{status.workload.state}, {status.workload.health}"
            + (f": {status.workload.message}" if status.workload.message else ""),
        )
    yield "Restarts", f"{status.restarts} (policy {vm.spec.restart_policy})"
    if status.last_end is not None:
        yield "Last end", f"{status.last_end.message} ({_age(status.last_end.at)} ago)"
    if vm.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(vm.meta.labels.items()))
    yield "Created", f"{_age(vm.meta.created_at)} ago"
    if wide:
        yield "Uid", vm.uid
        yield "Generation", f"{vm.meta.generation} (seen: {status.observed_generation})"
    for condition in status.conditions:
        told = f" {condition.reason}" if condition.reason else ""
        yield condition.type, condition.status + told + (f": {condition.message}" if condition.message else "")


def _start_of(vm: VM) -> str:
    start = vm.status.start
    if start is None:
        return ""
    return start.kind + ("" if start.duration_ms is None else f", {start.duration_ms / 1000:.2f} s")


def _age(moment: str) -> str:
    try:
        return format_age((datetime.now(UTC) - parse_time(moment)).total_seconds())
    except ValueError:
        return "-"
