"""``volar vms port-forward``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.cli.output import print_line_document
from volant.cli.session import Session, complete_vms, pass_session
from volant.core.errors import InvalidInput

if TYPE_CHECKING:
    from volant.client.forward import Forward


@click.command(
    name="port-forward",
    epilog="""
    \b
    Examples:
      volar vms port-forward web 8080:80
      volar vms port-forward web 80
      volar vms port-forward web 0:80 5432
      volar vms port-forward --address 0.0.0.0 web 8080:80
      volar vms port-forward --json web 0:80

    It goes through the guest's agent, so it works whatever network the VM has, and for what listens on the guest's loopback only.
    Ends with Ctrl-C.
    """,
)
@click.argument("name", shell_complete=complete_vms)
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen on this machine.")
@click.option("--host", metavar="ADDRESS", help="Connect to this address from inside the guest instead of its loopback.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line for everything that happens.")
@pass_session
def port_forward(session: Session, name: str, ports: tuple[str, ...], address: str, host: str | None, as_json: bool) -> None:
    """Make ports of the VM NAME reachable from this machine. LOCAL 0 is any port that is free."""
    import asyncio

    from volant.client.vms import PATH

    forwards = [read_forward(text) for text in ports]
    session.client.vms.get(name)  # a name that is wrong is said before anybody connects
    from volant.client.forward import Forwarder

    def tell(event: dict[str, Any]) -> None:
        if as_json:
            print_line_document(event)
        elif event["event"] == "listening":
            click.echo(f"{event['address']}:{event['port']} -> {name}:{event['remote']}")
        elif event["event"] == "failed":
            from volant.cli.failure import print_error

            print_error(f"port {event['remote']}, {event['peer']}: {event['message']}")

    async def run() -> None:
        forwarder = Forwarder(session.client.connection, f"{PATH}/{name}", forwards, address=address, host=host, tell=tell)
        await forwarder.run()

    asyncio.run(run())


def read_forward(text: str) -> Forward:
    from volant.client.forward import Forward

    local, colon, remote = text.rpartition(":")
    if not colon:
        local = remote
    numbers = [int(one) if one.isascii() and one.isdecimal() and len(one) <= 5 else -1 for one in (local, remote)]
    if not (0 <= numbers[0] <= 65_535 and 1 <= numbers[1] <= 65_535):
        raise InvalidInput(f"{text[:40]!r} is no port", field="PORTS", hint="8080:80, 80, or 0:80 for any that is free")
    return Forward(*numbers)
