"""``volar nodes``: the group, and the commands that look at nodes or remove them. Those that change one are in node_change.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.measure import format_since
from volant.cli.node_change import cordon, label, set_, taint, uncordon, untaint
from volant.cli.node_drain import drain
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError
from volant.core.node import Node, tell_state, whole_room
from volant.core.resource import to_wire


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar nodes list
      volar nodes get node-a
      volar nodes cordon node-a
      volar nodes drain node-a
    """,
)
def nodes() -> None:
    """Look at the hosts that run VMs, and say what may be placed on each."""


@nodes.command(
    name="list",
    epilog="""
    \b
    Examples:
      volar nodes list -o wide
      volar nodes list -l zone=a --state ready
    """,
)
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only those that it selects: zone=a,!old.")
@click.option("--state", type=click.Choice(("ready", "cordoned", "lost", "deleting")), help="Only those in this state.")
@format_option()
@pass_session
def list_(session: Session, selector: str, state: str | None, output: str) -> None:
    """List nodes, with what is given out of each."""
    found = session.client.nodes.list(selector, state=state)
    print_resources(found, output, lambda wide: _tabulate(found, wide), "there are no nodes")


@nodes.command(epilog="\b\nExamples:\n  volar nodes get node-a\n  volar nodes get node-a -o yaml")
@click.argument("name")
@format_option("table", "json", "name")
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the node NAME, what is given out of it and what is free."""
    node = session.client.nodes.get(name)
    if output == "json":
        print_document(to_wire(node))
    elif output == "name":
        click.echo(node.name)
    else:
        print_fields(_describe(node))


@nodes.command(
    epilog="""
    \b
    Examples:
      volar nodes delete node-b
      volar nodes delete node-b --force
    """
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also one that is there or has VMs: those are given up.")
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for each.")
@pass_session
def delete(session: Session, names: tuple[str, ...], force: bool, no_wait: bool, timeout: float) -> None:
    """Remove the nodes NAME..., whose hosts are gone for good."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            left = session.client.nodes.delete(name, force=force, wait=not no_wait, timeout_s=timeout)
            click.echo(f"{name} is deleted" if left is None else f"{name} is being deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


for _command in (cordon, uncordon, taint, untaint, label, set_, drain):
    nodes.add_command(_command)


def _tabulate(found: Sequence[Node], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "STATE", "VMS", "CPU", "MEMORY", "TAINTS", "AGE"]
    header += ["ARCHITECTURE", "HYPERVISOR", "VERSION", "HEARD", "LABELS"] if wide else []
    return header, (_row(node, wide) for node in found)


def _row(node: Node, wide: bool) -> list[str]:
    given, whole, status = node.status.given, whole_room(node), node.status
    row = [
        node.name,
        tell_state(node),
        str(given.vms),
        f"{_number(given.cpu_cores)} of {_number(whole.cpu_cores)}",
        f"{given.memory_mb} of {whole.memory_mb} MiB",
        ",".join(_taint(node)) or "-",
        format_since(node.meta.created_at),
    ]
    if wide:
        labels = ",".join(f"{key}={value}" for key, value in sorted(node.meta.labels.items()))
        row += [status.architecture, status.hypervisor, status.volant_version, format_since(status.heard_at), labels or "-"]
    return row


def _describe(node: Node) -> Iterable[tuple[str, str]]:
    spec, status, whole = node.spec, node.status, whole_room(node)
    yield "Name", node.name
    yield "State", tell_state(node) + (", cordoned" if spec.unschedulable and tell_state(node) == "Lost" else "")
    for condition in status.conditions:
        if condition.status != "True":
            yield "Message", condition.message
    if status.heard_at:
        yield "Heard", f"{format_since(status.heard_at)} ago"
    yield "Host", f"{status.cpu_cores} cores, {status.memory_mb} MiB of memory, {status.architecture}, {status.hypervisor}"
    yield "Reserved", f"{_number(spec.reserved_cpu_cores)} cores, {spec.reserved_memory_mb} MiB of memory"
    yield "Overcommit", f"{_number(spec.cpu_overcommit)} times the cores, {_number(spec.memory_overcommit)} times the memory"
    yield "To give", f"{_number(whole.cpu_cores)} cores, {whole.memory_mb} MiB of memory"
    yield "Given out", f"{_number(status.given.cpu_cores)} cores, {status.given.memory_mb} MiB of memory, {status.given.vms} VMs"
    yield "Free", f"{_number(status.free.cpu_cores)} cores, {status.free.memory_mb} MiB of memory"
    for device in status.devices:
        yield "Device", f"{device.device} at {device.address}"
    for words in _taint(node):
        yield "Taint", words
    if node.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(node.meta.labels.items()))


def _taint(node: Node) -> list[str]:
    return [f"{one.key}{'=' if one.value else ''}{one.value}:{one.effect}" for one in node.spec.taints]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
