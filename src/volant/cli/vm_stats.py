"""``volar vms stats``."""

from __future__ import annotations

import time
from typing import Any

import click

from volant.cli.failure import DONE, exit_code_of, print_volant_error
from volant.cli.output import format_option, format_table, print_document, print_line_document, print_table
from volant.cli.screen import show_again
from volant.cli.session import Ended, Session, pass_session
from volant.cli.usage import EXPLAINED, HEADER, Moment, describe_stats, sort_stats
from volant.cli.vm_select import Chosen, choose_vms, each_at_once
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError


@click.command(
    epilog=f"""
    \b
    Examples:
      volar vms stats
      volar vms stats web db
      volar vms stats -l app=shop --watch
      volar vms stats --json | jq '.items | map(.memory_private_bytes) | add'
    {EXPLAINED}"""
)
@choose_vms(required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it again and again.")
@click.option("--interval", type=Duration(), default="2s", show_default=True, help="How often, with --watch.")
@format_option("table", "json")
@pass_session
def stats(session: Session, chosen: Chosen, watch: bool, interval: float, output: str) -> None:
    """Show what VMs use, by the host kernel's own account and by the guest's; all that run when none is named."""
    if watch:
        _watch(session, chosen, interval, as_json=output == "json")
        return
    found, code = read_stats(session, chosen)
    if output == "json":
        print_document(found[0] if chosen.is_named and len(chosen.names) == 1 and found else {"items": found})
    elif found:
        print_table(HEADER, (describe_stats(one) for one in found))
    elif code == DONE:
        click.echo("no VM runs", err=True)
    if code != DONE:
        raise Ended(code)


def read_stats(session: Session, chosen: Chosen) -> tuple[list[dict[str, Any]], int]:
    """By name, and the first failure's exit code; what went wrong is said on stderr."""
    code = DONE
    if not chosen.is_named:
        answer = session.client.vms.all_stats(chosen.selector)
        for unread in answer["unread"]:
            click.echo(f"volar: {unread['name']}: {unread['detail']}", err=True)
            code = 1
        return answer["items"], code
    found: dict[str, dict[str, Any]] = {}
    names = chosen.list(session)
    for name, result in each_at_once(names, session.client.vms.stats):
        if isinstance(result, VolantError):
            print_volant_error(result)
            code = code or exit_code_of(result)
        else:
            found[name] = result
    return [found[name] for name in names if name in found], code


def _watch(session: Session, chosen: Chosen, interval_s: float, *, as_json: bool) -> None:
    before: Moment | None = None

    def draw() -> list[str]:
        nonlocal before
        found, _ = read_stats(session, chosen)
        now_s = time.monotonic()
        rows = [describe_stats(one, now_s, before) for one in sort_stats(found, "name")]
        before = Moment(now_s, {one["name"]: one for one in found})
        return [*format_table(HEADER, rows)]

    if not as_json:
        show_again(draw, interval_s)
        return
    import threading

    tick = threading.Event()
    while True:
        print_line_document({"items": read_stats(session, chosen)[0]})
        tick.wait(interval_s)
