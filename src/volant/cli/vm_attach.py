"""``volar vms attach``."""

from __future__ import annotations

import click

from volant.cli.session import Session, complete_vms, pass_session
from volant.core.errors import Forbidden, InvalidInput, Unavailable

KEYS = "ctrl-p,ctrl-q"


@click.command(
    epilog="""
    \b
    Examples:
      volar vms attach web
      volar vms attach --no-stdin web
      volar vms attach --detach-keys ctrl-x web

    Detaching ends nothing: with the keys when the workload has a terminal, with Ctrl-C when it has none. What was printed before
    is in the logs.
    The exit code is the workload's once it has ended for good.
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("--no-stdin", is_flag=True, help="Only look, even when the workload takes input.")
@click.option("--detach-keys", default=KEYS, show_default=True, metavar="KEYS", help='"" for none.')
@pass_session
def attach(session: Session, name: str, no_stdin: bool, detach_keys: str) -> None:
    """See what the workload of the VM NAME prints from now on, and type to it if it takes input."""
    from volant.cli.conversation import converse
    from volant.cli.terminal import is_terminal, read_size
    from volant.cli.vm_exec import end_as

    check_keys(detach_keys)
    size = read_size() if is_terminal(1) else None
    stdin = not no_stdin
    try:
        running = session.client.vms.attach(name, stdin=stdin, tty=size)
    except Forbidden:
        # It takes no input, and who only wants to look is not to be told to say so.
        stdin = False
        running = session.client.vms.attach(name, tty=size)
    except Unavailable as error:
        if "writes" not in error.message:
            raise
        raise Unavailable(error.message, hint="look without typing: --no-stdin") from error
    with running:
        if is_terminal(2):
            how = (detach_keys or "nothing") if stdin and running.has_tty else "ctrl-c"
            click.echo(f"attached to {name}; {how} detaches", err=True)
        detached = converse(
            running, stdin=stdin, raw=stdin and running.has_tty, keys=detach_keys if is_terminal(0) else "", pass_signals=False
        )
    if detached:
        click.echo(f"detached; {name} goes on", err=True)
        return
    end_as(running)


def check_keys(text: str) -> None:
    """Raises InvalidInput."""
    from volant.cli.terminal import DetachKeys

    try:
        DetachKeys(text)
    except ValueError as error:
        raise InvalidInput(str(error), field="--detach-keys", hint="as in ctrl-p,ctrl-q") from error
