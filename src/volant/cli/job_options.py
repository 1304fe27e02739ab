"""The options that say what a job is, as ``volar jobs run`` and ``volar cron create`` take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from volant.cli.session import complete_plugins
from volant.cli.vm_wait import Duration

F = TypeVar("F", bound=Callable[..., Any])


def job_options(command: F) -> F:
    """The command takes them as one mapping of keywords, for ``read_job``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("-p", "--plugin", required=True, help="The plugin that its VMs are made from.", shell_complete=complete_plugins),
    click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the environment; may be repeated."),
    click.option("--cpu", "cpu_cores", type=int, metavar="CORES", help="Instead of what the plugin says."),
    click.option("-m", "--memory", metavar="SIZE", help="Instead of what the plugin says: 512m, 1g, or MiB as a number."),
    click.option("--disk", "disk_mb", type=int, metavar="MIB", help="Size of the writable disk."),
    click.option("--network", metavar="NETWORK", help="The network of the card; default unless said."),
    click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="To find it by; may be repeated."),
    click.option("--completions", type=click.IntRange(min=1), metavar="N", help="How many runs are to end well; 1 unless said."),
    click.option("--parallelism", type=click.IntRange(min=1), metavar="N", help="How many run at a time; 1 unless said."),
    click.option("--retries", type=click.IntRange(min=0), metavar="N", help="How many runs may fail in all; 3 unless said."),
    click.option("--deadline", type=Duration(), metavar="DURATION", help="It has failed when it is not done so long after."),
    click.option("--keep", type=Duration(), metavar="DURATION", help="Remove it, and its logs, so long after its end."),
)


def read_job(command: tuple[str, ...], given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The spec of a job, as the API takes it, and its labels. Raises InvalidInput."""
    from volant.cli.run_options import read_environment, read_memory
    from volant.cli.vm_create import read_pairs

    vm: dict[str, Any] = {"plugin": given["plugin"]}
    if command:
        vm["command"] = list(command)
    for field in ("cpu_cores", "disk_mb", "network"):
        if given[field] is not None:
            vm[field] = given[field]
    if given["memory"] is not None:
        vm["memory_mb"] = read_memory(given["memory"])
    if given["env"]:
        vm["env"] = read_environment(given["env"], ())
    spec: dict[str, Any] = {"vm": vm}
    for field in ("completions", "parallelism", "retries"):
        if given[field] is not None:
            spec[field] = given[field]
    if given["deadline"] is not None:
        spec["deadline_s"] = max(1, round(given["deadline"]))
    if given["keep"] is not None:
        spec["keep_s"] = round(given["keep"])
    return spec, read_pairs(given["label"], "--label") if given["label"] else {}
