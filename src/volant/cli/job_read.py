"""``volar jobs list``, ``get`` and ``logs``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_resources, print_table
from volant.cli.session import Session, complete_plugins, pass_session
from volant.core.condition import find_condition
from volant.core.job import Job
from volant.core.resource import to_wire
from volant.core.vm import VM

PAGE = 500
SORTS = ("name", "created_at", "phase", "plugin", "ended_at")


@click.command(
    name="list",
    epilog="""
    \b
    Examples:
      volar jobs list
      volar jobs list --phase Failed --sort-by ended_at --desc
      volar jobs list --cron backup -o wide
      volar jobs list --json | jq -r '.items[] | select(.status.failed > 0) | .name'
    """,
)
@click.option("-l", "--selector", "--label", "selector", multiple=True, metavar="SELECTOR", help="Only those that it selects.")
@click.option("--phase", metavar="PHASE", help="Only those in it; several with commas.")
@click.option("--plugin", metavar="PLUGIN", help="Only those of it.", shell_complete=complete_plugins)
@click.option("--cron", "cronjob", metavar="SCHEDULE", help="Only those that it made.")
@click.option("-q", "--search", "q", metavar="TEXT", help="Only those with it in the name, the plugin or a label.")
@click.option("--sort-by", "sort", type=click.Choice(SORTS), help="By what; by name unless said.")
@click.option("--desc", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first so many.")
@format_option()
@pass_session
def list_(
    session: Session, /, selector: tuple[str, ...], desc: bool, limit: int | None, output: str, **filters: str | None
) -> None:
    """List jobs."""
    found: list[Job] = []
    cursor: str | None = None
    asked = {**filters, "order": "desc" if desc else None}
    while True:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page, cursor, total = session.client.jobs.list_page(",".join(selector), {**asked, "limit": size}, cursor)
        found += page
        if cursor is None or len(found) == limit:
            break
    if total > len(found) and output in ("table", "wide"):
        click.echo(f"{len(found)} of {total}; the rest with a higher --limit", err=True)
    chosen = bool(selector) or any(filters[name] for name in ("phase", "plugin", "cronjob", "q"))
    make_one = "there are no jobs; run one: volar jobs run NAME --plugin PLUGIN -- COMMAND"
    nothing = "there are no such jobs" if chosen else make_one
    print_resources(found, output, lambda wide: _tabulate(found, wide), nothing)


@click.command(
    epilog="""
    \b
    Examples:
      volar jobs get migrate
      volar jobs get migrate --json | jq .status.runs
    """
)
@click.argument("name")
@format_option()
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the job NAME: where it stands, and its runs."""
    job = session.client.jobs.get(name)
    if output == "json":
        print_document(to_wire(job))
        return
    if output == "name":
        click.echo(job.name)
        return
    print_fields(_describe(job, output == "wide"))
    from volant.cli.job_follow import list_runs

    vms = list_runs(session.client, name)
    if vms or job.status.runs:
        click.echo("")
        print_table(("RUN", "RESULT", "EXIT", "AGE", "MESSAGE"), _list_runs(job, vms))


@click.command(
    epilog="""
    \b
    Examples:
      volar jobs logs migrate
      volar jobs logs -f migrate
      volar vms logs --timestamps migrate-0-1
    """
)
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the job has ended.")
@pass_session
def logs(session: Session, name: str, follow: bool) -> None:
    """Print what the runs of the job NAME wrote, oldest first; with several completions each line after its VM's name."""
    from volant.cli.job_follow import JobOutput, await_job

    job = session.client.jobs.get(name)
    printed = JobOutput(session.client, job)
    if follow:
        printed.follow()
        await_job(session.client, name, None)
    printed.finish()


def _tabulate(found: Sequence[Job], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "PHASE", "DONE", "RUNNING", "FAILED", "PLUGIN", "AGE"] + (["ENDED", "COMMAND", "MESSAGE"] if wide else [])
    return header, (_row(job, wide) for job in found)


def _row(job: Job, wide: bool) -> list[str]:
    spec, status = job.spec, job.status
    row = [
        job.name,
        "Deleting" if job.deleting else status.phase,
        f"{status.succeeded}/{spec.completions}",
        str(status.active),
        str(status.failed),
        spec.vm.plugin,
        format_since(job.meta.created_at),
    ]
    if wide:
        ended = f"{format_since(status.ended_at)} ago" if status.ended_at else "-"
        row += [ended, " ".join(spec.vm.command) or "-", status.message or "-"]
    return row


def _describe(job: Job, wide: bool) -> Iterable[tuple[str, str]]:
    spec, status = job.spec, job.status
    yield "Name", job.name
    yield "Phase", "Deleting" if job.deleting else status.phase
    if status.message:
        yield "Message", f"{status.reason}: {status.message}" if status.reason else status.message
    blocked = find_condition(status.conditions, "Blocked")
    if blocked is not None and blocked.status == "True" and status.ended_at is None:
        yield "Blocked", blocked.message
    yield "Done", f"{status.succeeded} of {spec.completions}, {spec.parallelism} at a time"
    yield "Running", str(status.active)
    yield "Failed", f"{status.failed}; {spec.retries} may"
    if status.retry_at and status.ended_at is None:
        yield "Next try", status.retry_at
    yield "Plugin", spec.vm.plugin
    if spec.vm.command:
        yield "Command", " ".join(spec.vm.command)
    if spec.deadline_s is not None:
        yield "Deadline", f"{spec.deadline_s} s after its first start"
    if spec.keep_s is not None:
        yield "Kept", f"{spec.keep_s} s after its end"
    if job.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(job.meta.labels.items()))
    yield "Created", f"{format_since(job.meta.created_at)} ago"
    if status.started_at:
        yield "Started", f"{format_since(status.started_at)} ago"
    if status.ended_at:
        yield "Ended", f"{format_since(status.ended_at)} ago"
    if wide:
        yield "Uid", job.uid
        yield "Generation", f"{job.meta.generation} (seen: {status.observed_generation})"


def _list_runs(job: Job, vms: Sequence[VM]) -> Iterable[Sequence[str]]:
    ended = {record.vm for record in job.status.runs}
    for record in job.status.runs:
        code = "-" if record.exit_code is None else str(record.exit_code)
        yield record.vm, "done" if record.succeeded else "failed", code, format_since(record.ended_at), record.message or "-"
    for vm in vms:
        if vm.name not in ended:
            yield vm.name, vm.status.phase.lower(), "-", format_since(vm.meta.created_at), vm.status.message or "-"
