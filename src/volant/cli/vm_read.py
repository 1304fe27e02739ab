"""``volar vms list`` and ``volar vms get``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.measure import format_key, format_period, format_since, format_size
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Session, complete_plugins, complete_vms, pass_session
from volant.core.resource import to_wire
from volant.core.vm import VM, VMStatus

PAGE = 500
SORTS = ("name", "created_at", "phase", "plugin", "node", "memory_mb", "cpu_cores", "restarts", "started_at")


@click.command(
    name="list",
    epilog="""
    \b
    Examples:
      volar vms list
      volar vms list -l 'tier=web,zone in (a,b),!old' -o wide
      volar vms list --phase Running,Starting --plugin nginx --sort-by created_at --desc --limit 20
      volar vms list --json | jq -r '.items[].status.addresses[0].ip'
    """,
)
@click.option(
    "-l",
    "--selector",
    "--label",
    "selector",
    multiple=True,
    metavar="SELECTOR",
    help="Only those that it selects, as in app=web,tier!=db; may be repeated.",
)
@click.option("--phase", metavar="PHASE", help="Only those in it; several with commas.")
@click.option("--plugin", metavar="PLUGIN", help="Only those made from it.", shell_complete=complete_plugins)
@click.option("-q", "--search", "q", metavar="TEXT", help="Only those with it in the name, an address or a label.")
@click.option("--sort-by", "sort", type=click.Choice(SORTS), help="By what; by name unless said.")
@click.option("--desc", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first so many.")
@format_option()
@pass_session
def list_(
    session: Session, /, selector: tuple[str, ...], desc: bool, limit: int | None, output: str, **filters: str | None
) -> None:
    """List VMs."""
    vms, total = _read_pages(session, ",".join(selector), {**filters, "order": "desc" if desc else None}, limit)
    chosen = bool(selector) or any(filters[name] for name in ("phase", "plugin", "q"))
    nothing = "there are no such VMs" if chosen else "there are no VMs; make one: volar vms create NAME --plugin PLUGIN"
    if total > len(vms) and output in ("table", "wide"):
        click.echo(f"{len(vms)} of {total}; the rest with a higher --limit", err=True)
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


def _read_pages(session: Session, selector: str, filters: dict[str, str | None], limit: int | None) -> tuple[list[VM], int]:
    """At most ``limit`` VMs in pages, and how many there are."""
    found: list[VM] = []
    cursor: str | None = None
    while True:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page, cursor, total = session.client.vms.list_page(selector, {**filters, "limit": size}, cursor)
        found += page
        if cursor is None or len(found) == limit:
            return found, total


def _tabulate(vms: Sequence[VM], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "PHASE", "READY", "IP", "PLUGIN", "RESTARTS", "AGE"]
    if wide:
        header += ["CPU", "MEMORY", "ISOLATION", "START", "PORTS", "PID", "NODE", "MESSAGE"]
    return header, (_row(vm, wide) for vm in vms)


def _row(vm: VM, wide: bool) -> list[str]:
    status = vm.status
    row = [
        vm.name,
        "Deleting" if vm.deleting else status.phase,
        "yes" if status.ready else "no",
        (status.addresses[0].ip if status.addresses else "") or "-",
        vm.spec.plugin,
        str(status.restarts),
        format_since(vm.meta.created_at),
    ]
    if wide:
        row += [
            str(vm.spec.cpu_cores or "-"),
            f"{vm.spec.memory_mb} MiB",
            f"{status.isolation or '-'} ({status.accelerator or '-'})",
            _start_of(vm) or "-",
            format_ports(vm) or "-",
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
        place = f"{address.ip}/{address.prefix_length}" if address.ip else "none yet"
        by = {"static": "", "dhcp": ", by DHCP", "external": ", by an external DHCP server"}[address.source]
        yield "Address", f"{place} on {address.network}{by}"
    if vm.spec.ports:
        yield "Ports", ", ".join(f"{port.host_port} of the host to {port.port}" for port in vm.spec.ports)
    yield "Plugin", vm.spec.plugin
    yield "Size", f"{vm.spec.cpu_cores} CPU, {vm.spec.memory_mb} MiB of memory, {vm.spec.disk_mb} MiB of disk ({vm.spec.root})"
    if status.hypervisor:
        yield "Runs on", f"{status.node}: {status.hypervisor} with {status.accelerator}, {status.isolation} isolation"
    if status.pid is not None:
        yield "Process", str(status.pid)
    if status.started_at:
        yield "Started", f"{format_since(status.started_at)} ago" + (f" ({_start_of(vm)})" if _start_of(vm) else "")
    yield from _describe_start(status)
    if status.suspended is not None:
        size, took = format_size(status.suspended.size_bytes), status.suspended.duration_ms
        yield "Suspended", f"{format_since(status.suspended.at)} ago, {size} on disk, saved in {took} ms"
    if vm.spec.auto_suspend_s:
        yield "Sleeps", f"after {format_period(vm.spec.auto_suspend_s)} without traffic (auto-suspend)"
    if status.workload.state != "unknown" and status.phase != "Suspended":
        yield (
            "Workload",
            f"{status.workload.state}, {status.workload.health}"
            + (f": {status.workload.message}" if status.workload.message else ""),
        )
    yield "Restarts", f"{status.restarts} (policy {vm.spec.policy})"
    if status.last_end is not None:
        yield "Last end", f"{status.last_end.message} ({format_since(status.last_end.at)} ago)"
    if vm.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(vm.meta.labels.items()))
    yield "Created", f"{format_since(vm.meta.created_at)} ago"
    if wide:
        yield "Uid", vm.uid
        yield "Generation", f"{vm.meta.generation} (seen: {status.observed_generation})"
    for condition in status.conditions:
        told = f" {condition.reason}" if condition.reason else ""
        yield condition.type, condition.status + told + (f": {condition.message}" if condition.message else "")


def _describe_start(status: VMStatus) -> Iterable[tuple[str, str]]:
    start = status.start
    if start is None:
        return
    if start.kind == "cold" and start.reason:
        yield "Why cold", start.reason
    template = start.template or status.template
    if template:
        yield "Template", format_key(template)
    if start.steps_ms:
        yield "Steps", ", ".join(f"{name} {took} ms" for name, took in start.steps_ms.items())


def format_ports(vm: VM) -> str:
    """``8080:80,8443:443``, as --publish takes them."""
    return ",".join(f"{port.host_port}:{port.port}" for port in vm.spec.ports or ())


def _start_of(vm: VM) -> str:
    start = vm.status.start
    if start is None:
        return ""
    return start.kind + ("" if start.duration_ms is None else f", {start.duration_ms / 1000:.2f} s")
