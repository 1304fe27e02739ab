"""``volar nodes drain``: asks for a step again and again until the node is empty, and says what is in the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from volant.cli.failure import FAILED, print_error
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration

if TYPE_CHECKING:
    from volant.client.nodes import DrainStep

PAUSE_S = 0.5


@click.command(
    epilog="""
    \b
    Examples:
      volar nodes drain node-a
      volar nodes drain node-a --stop --timeout 10m
      volar nodes drain node-a --no-wait

    \b
    volar system drain stops every VM of every node at once, whatever belongs to what; this moves replicas elsewhere,
    as fast as the disruption budgets of their deployments allow. volar nodes uncordon undoes the cordon.
    """
)
@click.argument("name")
@click.option("--stop", is_flag=True, help="Stop VMs that nobody makes again elsewhere. They start again when somebody asks.")
@click.option("--force", is_flag=True, help="Whatever the disruption budgets say, and though a job counts it as failed.")
@click.option("--no-wait", is_flag=True, help="Take one step, and say what is left.")
@click.option("--timeout", type=Duration(), default="5m", show_default=True, help="How long to go on.")
@pass_session
def drain(session: Session, name: str, stop: bool, force: bool, no_wait: bool, timeout: float) -> None:
    """Cordon the node NAME, and move away what runs there."""
    until = time.monotonic() + timeout
    told: set[str] = set()
    while True:
        step = session.client.nodes.drain(name, stop=stop, force=force)
        for line in _describe(step):
            if line not in told:
                told.add(line)
                click.echo(line, err=line.startswith("  "))
        if step.is_done:
            click.echo(f"{name} is drained: nothing runs there")
            return
        stuck = bool(step.blocked) and not step.moved and not step.stopped and not step.going
        only_by_hand = stuck and all("--stop" in one.reason for one in step.blocked)
        if no_wait or only_by_hand or time.monotonic() >= until:
            _give_up(step, name)
        # Nobody tells when a budget allows more; a person waits here, and the server is asked again.
        time.sleep(PAUSE_S)


def _describe(step: DrainStep) -> list[str]:
    lines = [f"{vm} moves away" for vm in step.moved]
    lines += [f"{vm} is stopping" for vm in step.stopped]
    return lines + [f"  {one.vm} stays for now: {one.reason}" for one in step.blocked]


def _give_up(step: DrainStep, name: str) -> None:
    left = len(step.moved) + len(step.stopped) + len(step.going) + len(step.blocked)
    first = f", first of them {step.blocked[0].vm}: {step.blocked[0].reason}" if step.blocked else ""
    print_error(f"{name} is cordoned, and {left} VMs are still there{first}", f"go on: volar nodes drain {name}")
    raise Ended(FAILED)
