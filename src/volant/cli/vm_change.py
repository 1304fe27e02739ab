"""What the commands that configure VMs have in common: the options, and telling what became of a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from volant.cli.failure import printable
from volant.cli.output import print_document
from volant.cli.session import Ended, Session
from volant.core.changes import compare_configs, describe_config
from volant.core.condition import find_condition, is_true
from volant.core.errors import NotFound, TimedOut, Unavailable
from volant.core.resource import to_wire
from volant.core.vm import RESTART_REQUIRED, VM

SEEN_S = 15.0
"""How long a change may take until the VM's host has looked at it."""


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--reason``, ``--restart``, ``--dry-run`` and ``--generation``."""
    for option in (
        click.option("--generation", type=int, metavar="N", help="Only when the VM is at it."),
        click.option("--dry-run", is_flag=True, help="Say what would be, and change nothing."),
        click.option("--restart", is_flag=True, help="Restart it when only that gives it what is new, and wait."),
        click.option("--reason", default="", metavar="TEXT", help="Why; kept with the version."),
    ):
        command = option(command)
    return command


def tell_change(session: Session, before: VM, after: VM, *, restart: bool, dry_run: bool, output: str) -> None:
    """Print what differs now, and what a restart is needed for; with ``restart`` do it."""
    version = after.meta.generation
    if not dry_run and version != before.meta.generation:
        after = _await_host(session, after)
    if restart and not dry_run and is_true(after.status.conditions, RESTART_REQUIRED):
        after = _restart(session, after, output)
    if output == "json":
        print_document(to_wire(after))
    elif output == "name":
        click.echo(after.name)
    else:
        _print_change(before, after, None if dry_run else version)


def _print_change(before: VM, after: VM, version: int | None) -> None:
    """``version`` is None for a change that would be."""
    differences = compare_configs(
        describe_config(before.spec, before.meta.labels), describe_config(after.spec, after.meta.labels)
    )
    if not differences:
        click.echo(f"{after.name} is as it was")
        return
    told = "would be configured anew" if version is None else f"is configured anew, version {version}"
    click.echo(f"{after.name} {told}")
    for each in differences:
        click.echo(
            f"  {format_difference(each.path, each.before, each.after)}" + (_needs(each.effect) if version is None else "")
        )
    condition = find_condition(after.status.conditions, RESTART_REQUIRED)
    if version is not None and condition is not None and condition.status == "True":
        click.echo(f"waits for a restart: {printable(condition.message)}\n  hint: volar vms restart {after.name}", err=True)


def format_difference(path: str, before: Any, after: Any) -> str:
    return f"{printable(path)}: {_format(before)} -> {_format(after)}"


def _format(value: Any) -> str:
    import msgspec

    return "-" if value is None else printable(msgspec.json.encode(value).decode())


def _needs(effect: str) -> str:
    return {"restart": " (with a restart)", "applied": " (at once where the hypervisor can)"}.get(effect, "")


def _await_host(session: Session, vm: VM) -> VM:
    """``vm`` once its host has seen this generation of it; as it is when that takes long, or nothing runs for it."""
    last = vm
    try:
        for current in session.client.vms.watch(vm.name, timeout_s=SEEN_S):
            if current is None or current.uid != vm.uid:
                raise NotFound(f"{vm.name} was deleted in the meantime")
            last = current
            if current.status.observed_generation >= vm.meta.generation:
                break
    except (TimedOut, Unavailable):
        pass  # it is written down all the same
    return last


def _restart(session: Session, vm: VM, output: str) -> VM:
    from volant.cli.progress import show_progress
    from volant.cli.vm_wait import follow_vm, tell_failure

    asked = session.client.vms.restart(vm.name)
    with show_progress(quiet=output != "table") as say:
        followed = follow_vm(session.client, asked, "ready", 120.0, say)
    if followed is None:
        raise NotFound(f"{vm.name} was deleted in the meantime")
    if not followed.status.ready:
        raise Ended(tell_failure(session.client, followed))
    return followed
