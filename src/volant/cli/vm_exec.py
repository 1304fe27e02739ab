"""``volar vms exec``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import click

from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.core.errors import InvalidInput

if TYPE_CHECKING:
    from volant.client.exec import ExecConnection


@click.command(
    name="exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""
    \b
    Examples:
      volar vms exec web -- nginx -v
      volar vms exec web -- sh -c 'ls -l /etc | wc -l'
      volar vms exec -it web -- top
      tar c site | volar vms exec web -- tar x -C /srv
      volar vms exec -u www-data -e TERM=dumb web -- id
      volar vms exec -l app=shop -- uptime

    The exit code is the program's, or 128 and the number of the signal that ended it. Without -t Ctrl-C sends it SIGINT, and a
    second one hangs up on it; with -t every key is its own.
    """,
)
@click.argument("name", required=False, shell_complete=complete_vms)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-l", "--selector", metavar="SELECTOR", help="In all VMs whose labels match at once, instead of NAME.")
@click.option("--all", "everything", is_flag=True, help="In all VMs at once, instead of NAME.")
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin on even when it is a terminal.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal, as large as this one.")
@click.option("-u", "--user", default="", help="Instead of the workload's: name, uid or uid:gid.")
@click.option("-w", "--workdir", default="", help="Instead of the workload's.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@pass_session
def exec_(
    session: Session,
    name: str | None,
    command: tuple[str, ...],
    selector: str | None,
    everything: bool,
    interactive: bool,
    tty: bool,
    user: str,
    workdir: str,
    env: tuple[str, ...],
) -> None:
    """Run COMMAND in the VM NAME, beside its workload."""
    from volant.cli.conversation import converse

    environment = read_environment(env)
    if selector is not None or everything:
        from volant.cli.vm_exec_many import exec_in_each
        from volant.cli.vm_select import read_choice

        words = (*(() if name is None else (name,)), *command)
        words = words[1:] if words[:1] == ("--",) else words
        if interactive or tty or not words:
            raise InvalidInput("in many VMs a program has no stdin and no terminal", hint="volar vms exec -l app=web -- COMMAND")
        names = read_choice((), selector, everything).list(session)
        raise Ended(exec_in_each(session, names, words, env=environment, user=user, workdir=workdir))
    if name is None:
        raise InvalidInput("in which VM?", hint="volar vms exec NAME -- COMMAND")
    if command[:1] == ("--",):
        command = command[1:]
    if not command:
        raise InvalidInput("there is no program to run", hint=f"volar vms exec {name} -- COMMAND")
    stdin = interactive or not _is_terminal_or_closed(0)
    size = None
    if tty:
        from volant.cli.terminal import read_size

        size = read_size()
    running = session.client.vms.exec(name, command, env=environment, user=user, workdir=workdir, stdin=stdin, tty=size)
    with running:
        converse(running, stdin=stdin, raw=tty and stdin)
    end_as(running)


def read_environment(pairs: tuple[str, ...]) -> dict[str, str]:
    if not pairs:
        return {}
    from volant.cli.vm_create import read_pairs

    return read_pairs(pairs, "--env")


def end_as(running: ExecConnection) -> NoReturn:
    """End this command as the program ended."""
    if running.signal is not None:
        raise Ended(128 + running.signal)
    raise Ended(running.code or 0)


def _is_terminal_or_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return os.isatty(descriptor)
