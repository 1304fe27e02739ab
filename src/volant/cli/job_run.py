"""``volar jobs run``."""

from __future__ import annotations

import sys
from typing import Any

import click

from volant.cli.job_options import job_options, read_job
from volant.cli.output import format_option, print_document
from volant.cli.session import Ended, Session, pass_session
from volant.core.resource import to_wire

INTERRUPTED = 130


@click.command(
    epilog="""
    \b
    Examples:
      volar jobs run migrate --plugin shop -- ./manage.py migrate
      volar jobs run sum --plugin busybox --completions 8 --parallelism 2 -- sh -c 'echo part $VOLANT_JOB_INDEX'
      volar jobs run nightly --plugin report --retries 1 --deadline 10m --keep 1h -d
      volar jobs run check --plugin busybox --retries 0 -- false || echo it failed

    What a run writes comes here, and the exit code is the job's: 0 when it is done, that of the last run when its only one
    failed too often, 124 when its deadline passed. Ctrl-C leaves it running.
    """
)
@click.argument("name")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@job_options
@click.option("-d", "--detach", is_flag=True, help="Return once it is written down.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but what the runs write, and errors.")
@format_option("table", "json", "name")
@pass_session
def run(
    session: Session,
    /,
    name: str,
    command: tuple[str, ...],
    detach: bool,
    dry_run: bool,
    quiet: bool,
    output: str,
    **given: Any,
) -> None:
    """Run COMMAND, or what the plugin runs, to its end in VMs of the job NAME."""
    spec, labels = read_job(command, given)
    client = session.client
    job = client.jobs.create({"name": name, "labels": labels, **spec}, dry_run=dry_run)
    if detach or dry_run:
        if output == "json":
            print_document(to_wire(job))
        elif output == "name":
            click.echo(job.name)
        else:
            runs = "one run" if job.spec.completions == 1 else f"{job.spec.completions} runs"
            size = f"{runs} of {job.spec.vm.plugin} with {job.spec.vm.memory_mb} MiB"
            click.echo(f"{name} would be {size}" if dry_run else f"{name} is begun: {size}; its end: volar jobs wait {name}")
        return
    from volant.cli.job_follow import JobOutput, await_job, tell_end

    printed = JobOutput(client, job)
    if output == "table":
        printed.follow()
    try:
        ended = await_job(client, name, None)
    except KeyboardInterrupt:
        click.echo(f"{name} goes on; end it with: volar jobs delete {name}", err=True)
        raise Ended(INTERRUPTED) from None
    if output == "table":
        printed.finish()
    elif output == "json":
        print_document(to_wire(ended))
    else:
        click.echo(name)
    sys.stdout.flush()
    raise Ended(tell_end(ended, quiet=quiet or output != "table"))
