"""``volar vms console``."""

from __future__ import annotations

import sys

import click

from volant.cli.session import Session, complete_vms, pass_session
from volant.core.errors import InvalidInput

KEYS = "ctrl-]"


@click.command(
    epilog="""
    \b
    Examples:
      volar vms console web
      volar vms console -f web
      volar vms console -i web
      volar vms console -i --force web

    With -i every key goes to the guest but ctrl-], which leaves. One at a time may type; who is taken over from hears it.
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-i", "--interactive", is_flag=True, help="Type at it.")
@click.option("--force", is_flag=True, help="With -i: take over from who types at it.")
@click.option("--detach-keys", default=KEYS, show_default=True, metavar="KEYS", help='With -i: what leaves; "" for nothing.')
@click.option("--tail-bytes", type=click.IntRange(0, 1_000_000), help="Only so much of what was printed before.")
@pass_session
def console(
    session: Session, name: str, follow: bool, interactive: bool, force: bool, detach_keys: str, tail_bytes: int | None
) -> None:
    """Print what the serial console of the VM NAME showed: its kernel, and kestrel until the workload runs."""
    if force and not interactive:
        raise InvalidInput("--force is for --interactive", field="--force")
    if not interactive:
        for chunk in session.client.vms.console(name, follow=follow, tail_bytes=tail_bytes):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    from volant.cli.conversation import converse
    from volant.cli.terminal import is_terminal
    from volant.cli.vm_attach import check_keys

    check_keys(detach_keys)
    with session.client.vms.open_console(name, write=True, force=force, tail_bytes=tail_bytes) as running:
        if is_terminal(0):
            click.echo(f"at the console of {name}; {detach_keys or 'nothing'} leaves", err=True)
        keys = detach_keys if is_terminal(0) else ""
        converse(running, stdin=True, raw=True, keys=keys, pass_signals=False)
    if is_terminal(0):
        click.echo(f"left the console of {name}", err=True)
