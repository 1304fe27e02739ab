"""``volar vms wait``."""

from __future__ import annotations

import threading
import time

import click

from volant.cli.failure import DONE, FAILED, exit_code_of, print_error, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_goal import HINT, VMGoal, read_goal
from volant.cli.vm_select import Chosen, choose_vms, each_at_once
from volant.cli.vm_wait import Duration
from volant.client.client import Client
from volant.core.errors import NotFound, TimedOut, Unavailable, VolantError
from volant.core.resource import to_wire
from volant.core.vm import VM

AT_ONCE = 256
"""Watches cost nothing while nothing happens, and each VM has the whole timeout."""

AGAIN_S = 0.5


@click.command(
    epilog="""
    \b
    Examples:
      volar vms wait web
      volar vms wait web db --for condition=Ready --timeout 5m
      volar vms wait -l app=shop --for condition=Ready=False
      volar vms wait web --for phase=Stopped
      volar vms wait web --for delete
      volar vms wait web --for jsonpath='{.status.workload.restarts}'=2

    \b
    Exit codes: 0 when all are there, 1 when one is not in time, 3 when one is not there at all.
    """
)
@choose_vms()
@click.option("--for", "goal", default="condition=Ready", show_default=True, metavar="GOAL", help=f"What for: {HINT}.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait, for all together.")
@format_option("table", "json", "name")
@pass_session
def wait(session: Session, chosen: Chosen, goal: str, timeout: float, output: str) -> None:
    """Wait until VMs are what they shall be, or say where each stands."""
    wanted = read_goal(goal)
    deadline = time.monotonic() + timeout
    names = chosen.list(session)
    codes: dict[str, int] = {}
    there: dict[str, VM | None] = {}
    for name, result in each_at_once(names, lambda name: wait_for(session.client, name, wanted, deadline), AT_ONCE):
        if isinstance(result, VolantError):
            codes[name] = FAILED if isinstance(result, TimedOut) else exit_code_of(result)
            if isinstance(result, TimedOut):
                print_error(f"{name} is not there after {timeout:g} s: {result.message}")
            else:
                print_volant_error(result)
            continue
        codes[name] = DONE
        there[name] = result
        if output == "name":
            click.echo(name)
        elif output == "table":
            click.echo(f"{name}: {wanted.text}")
    if output == "json":
        print_document({"items": [to_wire(vm) for vm in (there.get(name) for name in names) if vm is not None]})
    failed = [name for name in names if codes[name] != DONE]
    if len(names) > 1 and failed:
        click.echo(f"{len(names) - len(failed)} of {len(names)} are there", err=True)
    if failed:
        raise Ended(max((codes[name] for name in failed), key=lambda code: code == FAILED))


def wait_for(client: Client, name: str, goal: VMGoal, deadline: float) -> VM | None:
    """The VM when ``goal`` is reached; None when it is gone and that was the goal. A volantd that goes away may come back.

    Raises:
        TimedOut: not until ``deadline``, monotonic; the message is where it stands. NotFound: it is gone, or never was.
    """
    last: VM | None = None
    while True:
        left_s = deadline - time.monotonic()
        try:
            if left_s <= 0:
                raise TimedOut("the time is up")
            for vm in client.vms.watch(name, timeout_s=left_s):
                if vm is not None and last is not None and vm.uid != last.uid:
                    vm = None  # another one of the same name
                if goal.reached(vm):
                    return vm
                if vm is None:
                    raise NotFound(f"{name} was deleted")
                last = vm
        except NotFound:
            if goal.is_delete:
                return None
            raise
        except TimedOut as error:
            stand = "volantd does not answer" if last is None else goal.stand(last)
            raise TimedOut(stand) from error
        except Unavailable:
            if last is None:
                raise  # nobody was there from the start
        _pause(min(AGAIN_S, max(0.0, deadline - time.monotonic())))


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
