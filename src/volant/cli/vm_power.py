"""``volar vms start``, ``stop``, ``restart``, ``suspend``, ``resume``, ``delete``: what may be asked of several VMs at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click

from volant.cli.failure import DONE, exit_code_of, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.cli.vm_wait import Duration, describe_start, describe_suspended, follow_vm, tell_failure
from volant.client.client import Client
from volant.core.errors import VolantError
from volant.core.resource import to_wire
from volant.core.vm import VM
from volant.core.wait import Goal

Verb = Literal["start", "stop", "restart", "suspend", "resume", "delete"]

_GOALS: dict[Verb, Goal] = {
    "start": "ready",
    "stop": "stopped",
    "restart": "ready",
    "suspend": "suspended",
    "resume": "ready",
    "delete": "deleted",
}
_UNDER_WAY: dict[Verb, str] = {
    "start": "is starting",
    "stop": "is stopping",
    "restart": "is restarting",
    "suspend": "is being suspended",
    "resume": "is being resumed",
    "delete": "is being deleted",
}


def _for_names(command: Callable[..., Any]) -> Callable[..., Any]:
    command = format_option("table", "json", "name")(pass_session(command))
    command = click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")(
        command
    )
    command = click.option("--no-wait", is_flag=True, help="Return once it is written down.")(command)
    return click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_vms)(command)


@click.command(epilog="\b\nExamples:\n  volar vms start web\n  volar vms start web db --timeout 5m")
@_for_names
def start(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Start the VMs NAME... and wait until each is ready, or has failed."""
    _change("start", session, names, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms stop web\n  volar vms stop web db --no-wait")
@_for_names
def stop(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Stop the VMs NAME... in an orderly way. Their disks and addresses stay theirs."""
    _change("stop", session, names, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms restart web")
@_for_names
def restart(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Stop the VMs NAME... in an orderly way and start them again."""
    _change("restart", session, names, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms suspend web\n  volar vms suspend web db --json")
@_for_names
def suspend(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Save the VMs NAME... to disk and free their memory. They go on where they were when they are resumed, or when somebody
    connects to one of their published ports."""
    _change("suspend", session, names, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms resume web\n  volar vms resume web db")
@_for_names
def resume(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Let the suspended VMs NAME... go on and wait until each is ready."""
    _change("resume", session, names, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms delete web\n  volar vms list -o name | xargs volar vms delete")
@_for_names
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Delete the VMs NAME..., and what they wrote with them."""
    _change("delete", session, names, no_wait, timeout, output)


def _change(verb: Verb, session: Session, names: tuple[str, ...], no_wait: bool, timeout_s: float, output: str) -> None:
    """Ask for all of them, then wait for each. One that fails does not keep the others; the first failure's code is the end."""
    codes: list[int] = []
    asked: list[VM] = []
    for name in dict.fromkeys(names):
        try:
            asked.append(_ask(session.client, verb, name))
        except VolantError as error:
            print_volant_error(error)
            codes.append(exit_code_of(error))
    settled: list[VM] = []
    for vm in asked:
        try:
            current: VM | None = vm
            if not no_wait:
                with show_progress(quiet=output != "table") as say:
                    current = follow_vm(session.client, vm, _GOALS[verb], timeout_s, say)
            codes.append(_tell(session.client, verb, vm, current, no_wait, output))
            settled.append(vm if current is None else current)
        except VolantError as error:
            print_volant_error(error)
            codes.append(exit_code_of(error))
    if output == "json":
        documents = [to_wire(vm) for vm in settled]
        print_document(documents[0] if len(names) == 1 and documents else {"items": documents})
    failed = next((code for code in codes if code != DONE), DONE)
    if failed:
        raise Ended(failed)


def _ask(client: Client, verb: Verb, name: str) -> VM:
    if verb == "delete":
        vm = client.vms.delete(name)
        assert vm is not None  # it is None only when it was waited for
        return vm
    vms = client.vms
    changes = {"start": vms.start, "stop": vms.stop, "restart": vms.restart, "suspend": vms.suspend, "resume": vms.resume}
    return changes[verb](name)


def _tell(client: Client, verb: Verb, asked: VM, current: VM | None, no_wait: bool, output: str) -> int:
    if not no_wait and current is not None:
        if _GOALS[verb] == "ready" and not current.status.ready:
            return tell_failure(client, current)
        if verb == "suspend" and current.status.phase in ("Failed", "Stopped"):
            return tell_failure(client, current, "suspended")
    if output == "name":
        click.echo(asked.name)
    elif output == "table":
        click.echo(f"{asked.name} {_UNDER_WAY[verb]}" if no_wait else _describe_end(verb, asked.name, current))
    return DONE


def _describe_end(verb: Verb, name: str, current: VM | None) -> str:
    if current is None:
        return f"{name} is deleted"
    if verb == "suspend":
        return describe_suspended(current)
    return f"{name} is stopped" if verb == "stop" else describe_start(current)
