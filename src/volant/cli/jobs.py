"""``volar jobs``: the group."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "run": Entry("volant.cli.job_run:run", "Run a command to its end in VMs, and show what it writes."),
        "list": Entry("volant.cli.job_read:list_", "List jobs."),
        "get": Entry("volant.cli.job_read:get", "Show one job and its runs."),
        "logs": Entry("volant.cli.job_read:logs", "Print what its runs wrote."),
        "wait": Entry("volant.cli.job_change:wait", "Wait for its end."),
        "suspend": Entry("volant.cli.job_change:suspend", "Start nothing new of it."),
        "resume": Entry("volant.cli.job_change:resume", "Let it go on."),
        "delete": Entry("volant.cli.job_change:delete", "Delete jobs, with their VMs and logs."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar jobs run migrate --plugin shop -- ./manage.py migrate
      volar jobs run sum --plugin busybox --completions 8 --parallelism 2 -d -- sh -c 'echo part $VOLANT_JOB_INDEX'
      volar jobs logs -f sum
      volar apply -f job.yaml
    """,
)
def jobs() -> None:
    """Run VMs to their end: so many times, with retries and a deadline."""
