"""``volar plugins remove``."""

from __future__ import annotations

import sys

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.session import Ended, Session, complete_plugins, pass_session
from volant.client.client import Client
from volant.core.errors import InvalidInput, VolantError

SHOWN = 20
WORDS = {
    "deployments": "deployments, and their VMs:",
    "cron_jobs": "schedules, and their jobs:",
    "jobs": "jobs, and their VMs and logs:",
    "vms": "VMs",
    "snapshots": "snapshots",
}
FORCED_S = 300.0
"""How long is waited for the VMs that go along, each of which has its grace."""


@click.command(
    epilog="""
    \b
    Examples:
      volar plugins remove nginx
      volar plugins remove nginx@1.2.0
      volar plugins remove nginx --force
      volar plugins remove nginx --force --yes
    """
)
@click.argument("names", metavar="NAME[@VERSION]...", nargs=-1, required=True, shell_complete=complete_plugins)
@click.option("--force", is_flag=True, help="With what needs it; says what that is, and asks.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def remove(session: Session, names: tuple[str, ...], force: bool, yes: bool) -> None:
    """Remove plugins, and their files unless another needs them: one version, or all where only the plugin is named.

    Refused while VMs, snapshots, deployments, jobs that have not ended, or schedules need them; what they are is said. With
    --force those are deleted first.
    """
    failed = 0
    for name in dict.fromkeys(names):
        try:
            if force:
                _ask(session.client, name, yes)
            left = session.client.plugins.remove(name, force=force, wait=True, timeout_s=FORCED_S if force else 60.0)
            click.echo(f"plugin {name} is removed" if left is None else f"plugin {name} is being removed")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


def _ask(client: Client, name: str, yes: bool) -> None:
    """Say what else would go. Raises InvalidInput when nobody can be asked."""
    users = client.plugins.users(name)
    for what, words in WORDS.items():
        found = users.get(what)
        if not found:
            continue
        shown = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        click.echo(f"with {name} go the {words} {shown}", err=True)
    if yes or not any(users.values()):
        return
    if not sys.stdin.isatty():
        raise InvalidInput("this would delete what needs it, and there is nobody to ask", hint="add --yes")
    if not click.confirm("delete them?", err=True):
        raise Ended(1)
