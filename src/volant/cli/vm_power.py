"""``volar vms start``, ``stop``, ``restart``, ``suspend``, ``resume``, ``delete``: what may be asked of several VMs at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click

from volant.cli.failure import DONE, FAILED, exit_code_of, print_error, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_select import Chosen, choose_vms, confirm_many, each_at_once
from volant.cli.vm_wait import Duration, describe_start, describe_suspended, follow_vm, tell_failure
from volant.client.client import Client
from volant.core.deployment import DEPLOYMENT_LABEL
from volant.core.errors import VolantError
from volant.core.resource import to_wire
from volant.core.vm import VM
from volant.core.wait import Goal, is_withdrawn

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


def _for_vms(command: Callable[..., Any]) -> Callable[..., Any]:
    command = format_option("table", "json", "name")(pass_session(command))
    command = click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")(
        command
    )
    command = click.option("--no-wait", is_flag=True, help="Return once it is written down.")(command)
    return choose_vms()(command)


_disrupt = click.option("--disrupt", is_flag=True, help="Also when the disruption budget of its deployment forbids it.")


@click.command(
    epilog="\b\nExamples:\n  volar vms start web\n  volar vms start web db --timeout 5m\n  volar vms start -l app=shop"
)
@_for_vms
def start(session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str) -> None:
    """Start VMs and wait until each is ready, or has failed."""
    _change("start", session, chosen, no_wait, timeout, output)


@click.command(epilog="\b\nExamples:\n  volar vms stop web\n  volar vms stop web db --no-wait\n  volar vms stop --all")
@_for_vms
@click.option("--force", is_flag=True, help="At once, without asking the guest.")
@_disrupt
def stop(session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str, force: bool, disrupt: bool) -> None:
    """Stop VMs in an orderly way. Their disks and addresses stay theirs."""
    _change("stop", session, chosen, no_wait, timeout, output, force=force, disrupt=disrupt)


@click.command(epilog="\b\nExamples:\n  volar vms restart web\n  volar vms restart -l 'app=shop,tier!=db'")
@_for_vms
@_disrupt
def restart(session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str, disrupt: bool) -> None:
    """Stop VMs in an orderly way and start them again."""
    _change("restart", session, chosen, no_wait, timeout, output, disrupt=disrupt)


@click.command(epilog="\b\nExamples:\n  volar vms suspend web\n  volar vms suspend web db --json\n  volar vms suspend --all")
@_for_vms
@_disrupt
def suspend(session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str, disrupt: bool) -> None:
    """Save VMs to disk and free their memory. They go on where they were when they are resumed, or when somebody connects to
    one of their published ports."""
    _change("suspend", session, chosen, no_wait, timeout, output, disrupt=disrupt)


@click.command(epilog="\b\nExamples:\n  volar vms resume web\n  volar vms resume web db\n  volar vms resume --all")
@_for_vms
def resume(session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str) -> None:
    """Let suspended VMs go on and wait until each is ready."""
    _change("resume", session, chosen, no_wait, timeout, output)


@click.command(
    epilog="\b\nExamples:\n  volar vms delete web\n  volar vms delete -l env=test\n  volar vms delete --all --yes\n"
    "  volar vms list -o name | xargs volar vms delete"
)
@_for_vms
@click.option("--force", is_flag=True, help="At once, without asking the guest to stop first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, on a terminal, before what was selected is deleted.")
@_disrupt
def delete(
    session: Session, chosen: Chosen, no_wait: bool, timeout: float, output: str, force: bool, yes: bool, disrupt: bool
) -> None:
    """Delete VMs, and what they wrote with them."""
    _change("delete", session, chosen, no_wait, timeout, output, force=force, yes=yes, disrupt=disrupt)


def _change(
    verb: Verb,
    session: Session,
    chosen: Chosen,
    no_wait: bool,
    timeout_s: float,
    output: str,
    *,
    force: bool = False,
    yes: bool = True,
    disrupt: bool = False,
) -> None:
    """Several at a time. One that fails does not keep the others; the first failure's code, in the order given, is the end."""
    client = session.client
    names = chosen.list(session)
    if not confirm_many(verb, names, chosen=chosen, yes=yes):
        raise Ended(FAILED)
    codes: dict[str, int] = {}
    settled: dict[str, VM] = {}
    with show_progress(quiet=output != "table" or no_wait) as say:

        def change(name: str) -> tuple[VM, VM | None]:
            asked = _ask(client, verb, name, force, disrupt)
            return asked, asked if no_wait else follow_vm(client, asked, _GOALS[verb], timeout_s, say)

        results = each_at_once(names, change)
        for name, result in sorted(results, key=lambda one: names.index(one[0])) if no_wait else results:
            if isinstance(result, VolantError):
                print_volant_error(result)
                codes[name] = exit_code_of(result)
                continue
            asked, current = result
            codes[name] = _tell(client, verb, asked, current, no_wait, output)
            settled[name] = asked if current is None else current
    failed = [name for name in names if codes[name] != DONE]
    if output == "json":
        documents = [to_wire(settled[name]) for name in names if name in settled]
        print_document(documents[0] if len(names) == 1 and chosen.is_named and documents else {"items": documents})
    elif output == "table" and len(names) > 1 and failed:
        click.echo(f"{verb}: {len(names) - len(failed)} of {len(names)} done, failed: {', '.join(failed)}", err=True)
    if failed:
        raise Ended(codes[failed[0]])


def _ask(client: Client, verb: Verb, name: str, force: bool, disrupt: bool) -> VM:
    if verb == "delete":
        vm = client.vms.delete(name, force=force, disrupt=disrupt)
        assert vm is not None  # it is None only when it was waited for
        return vm
    vms = client.vms
    if verb == "stop":
        return vms.stop(name, force=force, disrupt=disrupt)
    if verb == "restart":
        return vms.restart(name, disrupt=disrupt)
    if verb == "suspend":
        return vms.suspend(name, disrupt=disrupt)
    return vms.start(name) if verb == "start" else vms.resume(name)


def _tell(client: Client, verb: Verb, asked: VM, current: VM | None, no_wait: bool, output: str) -> int:
    if not no_wait and current is not None:
        if _GOALS[verb] == "ready" and not current.status.ready:
            return tell_failure(client, current)
        if verb == "suspend" and current.status.phase in ("Failed", "Stopped"):
            return tell_failure(client, current, "suspended")
        if verb == "stop" and is_withdrawn(asked, current):
            owner = current.meta.labels.get(DEPLOYMENT_LABEL)
            by = "somebody asked" if owner is None else f"its deployment {owner!r} asks"
            print_error(
                f"{asked.name} does not stay stopped: {by} for it to run",
                None if owner is None else f"volar deployments scale {owner} N",
            )
            return FAILED
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
