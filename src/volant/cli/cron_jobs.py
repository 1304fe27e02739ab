"""``volar cron``: the group and its commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.job_options import job_options, read_job
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError
from volant.core.job import CronJob
from volant.core.resource import to_wire


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar cron create backup --schedule '30 4 * * *' --timezone Europe/Berlin --plugin backup
      volar cron list
      volar cron trigger backup
      volar jobs list --cron backup
    """,
)
def cron() -> None:
    """Run jobs by the clock, as crontab(5) writes it."""


@cron.command(name="list", epilog="\b\nExamples:\n  volar cron list\n  volar cron list --json")
@click.option("-l", "--selector", "--label", "selector", multiple=True, metavar="SELECTOR", help="Only those that it selects.")
@click.option("-q", "--search", "q", metavar="TEXT", help="Only those with it in the name or a label.")
@format_option()
@pass_session
def list_(session: Session, selector: tuple[str, ...], q: str | None, output: str) -> None:
    """List schedules."""
    found = session.client.cron_jobs.list(",".join(selector), q=q)
    make_one = "there are no schedules; make one: volar cron create NAME --schedule '30 4 * * *' --plugin PLUGIN"
    print_resources(found, output, lambda wide: _tabulate(found, wide), make_one)


@cron.command(epilog="\b\nExamples:\n  volar cron get backup\n  volar cron get backup -o yaml > backup.yaml")
@click.argument("name")
@format_option("table", "json", "name")
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the schedule NAME."""
    found = session.client.cron_jobs.get(name)
    if output == "json":
        print_document(to_wire(found))
    elif output == "name":
        click.echo(found.name)
    else:
        print_fields(_describe(found))


@cron.command(
    epilog="""
    \b
    Examples:
      volar cron create backup --schedule '30 4 * * *' --timezone Europe/Berlin --plugin backup --deadline 1h
      volar cron create tidy --schedule @hourly --plugin busybox --concurrency replace -- sh -c 'echo tidy'
    """
)
@click.argument("name")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--schedule", required=True, metavar="'M H DOM MON DOW'", help="As in crontab(5), or @daily and its like.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="As in Europe/Berlin.")
@click.option(
    "--concurrency",
    type=click.Choice(("forbid", "allow", "replace")),
    default="forbid",
    show_default=True,
    help="When the one before still runs: leave this one out, let both run, or end the one before.",
)
@click.option("--start-deadline", type=Duration(), metavar="DURATION", help="Leave out what was missed by more.")
@click.option("--keep-succeeded", type=click.IntRange(0, 100), default=3, show_default=True, help="Jobs that ended well.")
@click.option("--keep-failed", type=click.IntRange(0, 100), default=1, show_default=True, help="Jobs that did not.")
@click.option("--suspended", is_flag=True, help="Make it, and no jobs of it yet.")
@job_options
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@format_option("table", "json", "name")
@pass_session
def create(
    session: Session,
    /,
    name: str,
    command: tuple[str, ...],
    schedule: str,
    timezone: str,
    concurrency: str,
    start_deadline: float | None,
    keep_succeeded: int,
    keep_failed: int,
    suspended: bool,
    dry_run: bool,
    output: str,
    **given: Any,
) -> None:
    """Run COMMAND, or what the plugin runs, at every moment of a schedule."""
    spec, labels = read_job(command, given)
    wanted: dict[str, Any] = {
        "name": name,
        "labels": labels,
        "schedule": schedule,
        "timezone": timezone,
        "concurrency": concurrency,
        "keep_succeeded": keep_succeeded,
        "keep_failed": keep_failed,
        "suspended": suspended,
        "job": spec,
    }
    if start_deadline is not None:
        wanted["start_deadline_s"] = max(1, round(start_deadline))
    made = session.client.cron_jobs.create(wanted, dry_run=dry_run)
    if output == "json":
        print_document(to_wire(made))
    elif output == "name":
        click.echo(name)
    else:
        click.echo(f"{name} would run at {schedule!r} ({timezone})" if dry_run else f"{name} runs at {schedule!r} ({timezone})")


@cron.command(epilog="\b\nExamples:\n  volar cron delete backup")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait for each.")
@pass_session
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Delete the schedules NAME..., and their jobs with them."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            left = session.client.cron_jobs.delete(name, wait=not no_wait, timeout_s=timeout)
            click.echo(f"{name} is deleted" if left is None else f"{name} is being deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


@cron.command(epilog="\b\nExamples:\n  volar cron suspend backup")
@click.argument("name")
@pass_session
def suspend(session: Session, name: str) -> None:
    """Make no jobs of the schedule NAME until it is resumed; what comes meanwhile is left out for good."""
    session.client.cron_jobs.suspend(name)
    click.echo(f"{name} is suspended")


@cron.command(epilog="\b\nExamples:\n  volar cron resume backup")
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """Let the schedule NAME go on, from now."""
    session.client.cron_jobs.resume(name)
    click.echo(f"{name} goes on")


@cron.command(epilog="\b\nExamples:\n  volar cron trigger backup\n  volar jobs wait $(volar cron trigger backup -o name)")
@click.argument("name")
@format_option("table", "json", "name")
@pass_session
def trigger(session: Session, name: str, output: str) -> None:
    """Make a job of the schedule NAME now."""
    job = session.client.cron_jobs.trigger(name)
    if output == "json":
        print_document(to_wire(job))
    elif output == "name":
        click.echo(job.name)
    else:
        click.echo(f"{job.name} is begun; its end: volar jobs wait {job.name}")


def _tabulate(found: Sequence[CronJob], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "SCHEDULE", "TIMEZONE", "SUSPENDED", "RUNNING", "LAST", "NEXT"] + (["PLUGIN", "MESSAGE"] if wide else [])
    return header, (_row(one, wide) for one in found)


def _row(one: CronJob, wide: bool) -> list[str]:
    spec, status = one.spec, one.status
    row = [
        one.name,
        spec.schedule,
        spec.timezone,
        "yes" if spec.suspended else "no",
        str(len(status.active)),
        f"{format_since(status.last_scheduled_at)} ago" if status.last_scheduled_at else "-",
        _format_minute(status.next_at),
    ]
    return row + ([spec.job.vm.plugin, status.message or "-"] if wide else [])


def _describe(one: CronJob) -> Iterable[tuple[str, str]]:
    spec, status = one.spec, one.status
    yield "Name", one.name
    if one.deleting:
        yield "Phase", "Deleting"
    yield "Schedule", f"{spec.schedule} ({spec.timezone})" + (", suspended" if spec.suspended else "")
    yield "Next", _format_minute(status.next_at)
    yield "Last", _format_minute(status.last_scheduled_at)
    if status.last_succeeded_at:
        yield "Last done", _format_minute(status.last_succeeded_at)
    if status.active:
        yield "Running", ", ".join(status.active)
    if status.message:
        yield "Message", status.message
    yield "At once", spec.concurrency
    if spec.start_deadline_s is not None:
        yield "Start by", f"{spec.start_deadline_s} s after its moment"
    yield "Keeps", f"{spec.keep_succeeded} that ended well, {spec.keep_failed} that did not"
    yield "Plugin", spec.job.vm.plugin
    if spec.job.vm.command:
        yield "Command", " ".join(spec.job.vm.command)
    if one.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(one.meta.labels.items()))
    yield "Created", f"{format_since(one.meta.created_at)} ago"


def _format_minute(moment: str | None) -> str:
    """``2026-01-31 04:30 UTC``."""
    return f"{moment[:10]} {moment[11:16]} UTC" if moment else "-"
