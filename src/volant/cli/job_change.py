"""``volar jobs wait``, ``delete``, ``suspend`` and ``resume``."""

from __future__ import annotations

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError


@click.command(
    epilog="""
    \b
    Examples:
      volar jobs wait migrate
      volar jobs wait migrate --timeout 10m && volar deployments update shop --plugin shop@2.0
    """
)
@click.argument("name")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Give up after so long; the job goes on.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but errors.")
@pass_session
def wait(session: Session, name: str, timeout: float | None, quiet: bool) -> None:
    """Wait until the job NAME has ended; the exit code is its own, as of volar jobs run."""
    from volant.cli.job_follow import await_job, tell_end

    raise Ended(tell_end(await_job(session.client, name, timeout), quiet=quiet))


@click.command(
    epilog="\b\nExamples:\n  volar jobs delete migrate\n  volar jobs list --phase Failed -o name | xargs -r volar jobs delete"
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")
@pass_session
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Delete the jobs NAME...: what runs of them is stopped, and their logs go."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            left = session.client.jobs.delete(name, wait=not no_wait, timeout_s=timeout)
            click.echo(f"{name} is deleted" if left is None else f"{name} is being deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


@click.command(epilog="\b\nExamples:\n  volar jobs suspend sum")
@click.argument("name")
@pass_session
def suspend(session: Session, name: str) -> None:
    """Start nothing new of the job NAME; what runs goes on, and so does its deadline."""
    job = session.client.jobs.suspend(name)
    more = f"; {job.status.active} still run" if job.status.active else ""
    click.echo(f"{name} is suspended{more}")


@click.command(epilog="\b\nExamples:\n  volar jobs resume sum")
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """Let the job NAME go on."""
    session.client.jobs.resume(name)
    click.echo(f"{name} goes on")
