"""``volar vms logs`` and ``volar vms console``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import click

from volant.cli.output import print_line_document
from volant.cli.session import Session, complete_vms, pass_session
from volant.core.duration import parse_duration
from volant.core.errors import InvalidInput
from volant.core.moment import format_time


@click.command(
    epilog="""
    \b
    Examples:
      volar vms logs web
      volar vms logs -f --tail 20 web
      volar vms logs --since 5m web
      volar vms logs --previous web
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, over restarts.")
@click.option("-n", "--tail", type=click.IntRange(0, 1_000_000), metavar="LINES", help="Only the last so many.")
@click.option("--since", metavar="WHEN", help="Only what came since: 5m ago, or 2026-01-31T12:00:00Z.")
@click.option("--previous", is_flag=True, help="Of the run before this one.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@pass_session
def logs(
    session: Session,
    name: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    previous: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Print what the workload of the VM NAME wrote: its stdout on stdout, its stderr on stderr."""
    moment = None if since is None else read_since(since, datetime.now(UTC))
    inside = False
    for line in session.client.vms.logs(name, follow=follow, tail=tail, since=moment, previous=previous):
        if as_json:
            print_line_document(line)
            continue
        if line.get("missed"):
            click.echo(f"volar: {line['missed']} lines were lost here", err=True)
        source = line.get("source")
        head = "" if inside else (f"{line['at']} " if timestamps else "") + ("kestrel: " if source == "kestrel" else "")
        inside = bool(line.get("partial"))
        click.echo(head + str(line["text"]), err=source != "stdout", nl=not inside)


def read_since(text: str, now: datetime) -> str:
    """RFC 3339 of a moment that is written so, or as how long ago it was."""
    if text[:4].isdecimal() and "T" in text:
        return text
    try:
        return format_time(now - timedelta(seconds=parse_duration(text)))
    except InvalidInput as error:
        raise InvalidInput(f"--since {text!r} is no moment", hint="write 5m, or 2026-01-31T12:00:00Z") from error


@click.command(
    epilog="""
    \b
    Examples:
      volar vms console web
      volar vms console -f web
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@pass_session
def console(session: Session, name: str, follow: bool) -> None:
    """Print what the serial console of the VM NAME showed: its kernel, and kestrel until the workload runs."""
    for chunk in session.client.vms.console(name, follow=follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
