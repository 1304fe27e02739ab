"""``volar vms fork``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice

import click

from volant.cli.failure import DONE, exit_code_of, print_error, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.cli.vm_wait import Duration, describe_start, follow_vm, tell_failure
from volant.core.errors import InvalidInput, VolantError
from volant.core.resource import to_wire
from volant.core.vm import VM

FORK_MAX = 100
NUMBER = "{}"


@click.command(
    epilog="""
    \b
    Examples:
      volar vms fork web
      volar vms fork web --count 5
      volar vms fork web --count 3 --name 'try-{}'
      volar vms fork web --as blue --as green
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("-c", "--count", "wanted", type=click.IntRange(1, FORK_MAX), help="How many; 1 unless said.")
@click.option("--name", "pattern", metavar="PATTERN", help="What to call them, with {} for a number; NAME-{} unless said.")
@click.option("--as", "names", multiple=True, metavar="NAME", help="What to call one of them; may be repeated.")
@click.option("--no-wait", is_flag=True, help="Return once they are written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")
@format_option("table", "json", "name")
@pass_session
def fork(
    session: Session,
    name: str,
    wanted: int | None,
    pattern: str | None,
    names: tuple[str, ...],
    no_wait: bool,
    timeout: float,
    output: str,
) -> None:
    """Make new VMs that go on from where the VM NAME is now, each with a name and an address of its own.

    NAME stands still while it is saved, and goes on. The new ones share the memory of the template that it stands on, have
    a copy of the rest and of its disk, and publish no ports.
    """
    if names and (wanted is not None or pattern is not None):
        raise InvalidInput(
            "--as says every name, so --count and --name say nothing", hint="volar vms fork NAME --as NEW --as NEW"
        )
    if not names:
        taken = [vm.name for vm in session.client.vms.list()]
        names = tuple(islice(_free_names(pattern or name, taken), wanted or 1))
    with show_progress(quiet=output != "table") as say:
        say(f"{name}: being saved")
        made = session.client.vms.fork(name, names)
    codes = [DONE] if no_wait else [_await(session, made, index, timeout, output) for index in range(len(made))]
    if output == "json":
        print_document({"items": [to_wire(vm) for vm in made]})
    elif no_wait:
        for vm in made:
            click.echo(vm.name if output == "name" else f"{vm.name} is starting")
    failed = next((code for code in codes if code != DONE), DONE)
    if failed:
        raise Ended(failed)


def _await(session: Session, made: list[VM], index: int, timeout_s: float, output: str) -> int:
    """Wait for one of them, put it in its place as it is then, and say how it went."""
    vm = made[index]
    try:
        with show_progress(quiet=output != "table") as say:
            current = follow_vm(session.client, vm, "ready", timeout_s, say)
    except VolantError as error:
        print_volant_error(error)
        return exit_code_of(error)
    if current is None:
        print_error(f"{vm.name} was deleted in the meantime")
        return 3
    made[index] = current
    if not current.status.ready:
        return tell_failure(session.client, current)
    if output != "json":
        click.echo(current.name if output == "name" else describe_start(current))
    return DONE


def _free_names(pattern: str, taken: Iterable[str]) -> Iterator[str]:
    """The names of ``pattern`` that nobody has, from number 1."""
    known = set(taken)
    numbered = pattern if NUMBER in pattern else f"{pattern}-{NUMBER}"
    return (name for number in count(1) if (name := numbered.replace(NUMBER, str(number))) not in known)
