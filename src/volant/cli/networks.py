"""``volar networks``: the group and its commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import click

from volant.cli.failure import FAILED, exit_code_of, print_error, print_volant_error
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError
from volant.core.network import DhcpSource, Network
from volant.core.resource import to_wire


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar networks list
      volar networks create backend --subnet 10.20.0.0/24
      volar networks create lan --bridge br0 --dhcp external
    """,
)
def networks() -> None:
    """Make and remove the networks that VMs have their cards in."""


@networks.command(name="list", epilog="\b\nExamples:\n  volar networks list\n  volar networks list --json")
@format_option()
@pass_session
def list_(session: Session, output: str) -> None:
    """List networks."""
    found = session.client.networks.list()
    print_resources(found, output, lambda wide: _tabulate(found, wide), "there are no networks")


@networks.command(epilog="\b\nExamples:\n  volar networks show default")
@click.argument("name")
@format_option("table", "json", "name")
@pass_session
def show(session: Session, name: str, output: str) -> None:
    """Show the network NAME."""
    network = session.client.networks.get(name)
    if output == "json":
        print_document(to_wire(network))
    elif output == "name":
        click.echo(network.name)
    else:
        print_fields(_describe(network))


@networks.command(
    epilog="""
    \b
    Examples:
      volar networks create backend --subnet 10.20.0.0/24
      volar networks create lan --bridge br0 --dhcp external
    """
)
@click.argument("name")
@click.option(
    "--subnet", default="", metavar="CIDR", help="Its addresses, the gateway's the first. With --dhcp external: those believed."
)
@click.option(
    "--bridge", default="", metavar="NAME", help="What its bridge is called; with --dhcp external the one that is there."
)
@click.option("--mtu", type=int, default=1500, show_default=True, help="Bytes of a packet.")
@click.option(
    "--dhcp",
    type=click.Choice(("volant", "external")),
    default="volant",
    show_default=True,
    help="Who gives the addresses; external joins a bridge that somebody else made.",
)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait.")
@format_option("table", "json", "name")
@pass_session
def create(
    session: Session, name: str, subnet: str, bridge: str, mtu: int, dhcp: str, no_wait: bool, timeout: float, output: str
) -> None:
    """Make the network NAME, and wait until it is there."""
    network = session.client.networks.create(
        name,
        subnet=subnet,
        bridge=bridge,
        mtu=mtu,
        dhcp=cast(DhcpSource, dhcp),
        wait=not no_wait,
        timeout_s=timeout,
    )
    if output == "json":
        print_document(to_wire(network))
    if network.status.phase == "Failed":
        print_error(f"{name} failed: {network.status.message}", f"remove it: volar networks delete {name}")
        raise Ended(FAILED)
    if output == "name":
        click.echo(name)
    elif output == "table":
        click.echo(f"{name} is being made" if no_wait else f"{name} is there: {_describe_place(network)}")


@networks.command(epilog="\b\nExamples:\n  volar networks delete backend")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for each.")
@pass_session
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Delete the networks NAME...; refused while a VM has a card in one. A bridge of somebody else's stays."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            left = session.client.networks.delete(name, wait=not no_wait, timeout_s=timeout)
            click.echo(f"{name} is deleted" if left is None else f"{name} is being deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


def _tabulate(found: Sequence[Network], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "PHASE", "SUBNET", "BRIDGE", "DHCP", "AGE"] + (["GATEWAY", "MTU", "MESSAGE"] if wide else [])
    return header, (_row(network, wide) for network in found)


def _row(network: Network, wide: bool) -> list[str]:
    spec, status = network.spec, network.status
    phase = "Deleting" if network.deleting else status.phase
    row = [network.name, phase, spec.subnet or "-", spec.bridge, spec.dhcp, format_since(network.meta.created_at)]
    return row + ([status.gateway or "-", str(spec.mtu), status.message or "-"] if wide else [])


def _describe(network: Network) -> Iterable[tuple[str, str]]:
    yield "Name", network.name
    yield "Phase", "Deleting" if network.deleting else network.status.phase
    if network.status.message:
        yield "Message", network.status.message
    if network.spec.subnet:
        yield "Subnet", network.spec.subnet
    if network.status.gateway:
        yield "Gateway", network.status.gateway
    yield "Bridge", network.spec.bridge
    yield "MTU", str(network.spec.mtu)
    yield "DHCP", network.spec.dhcp
    if network.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(network.meta.labels.items()))


def _describe_place(network: Network) -> str:
    if network.spec.dhcp == "external":
        return f"bridge {network.spec.bridge}, with addresses of its own"
    return f"{network.spec.subnet} on bridge {network.spec.bridge}"
