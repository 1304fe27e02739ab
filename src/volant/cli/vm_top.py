"""``volar top``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from volant.cli.measure import format_size
from volant.cli.output import format_option, format_table, print_document
from volant.cli.screen import show_again
from volant.cli.session import Session, pass_session
from volant.cli.usage import EXPLAINED, HEADER, SORTS, Moment, describe_stats, sort_stats
from volant.cli.vm_wait import Duration
from volant.core.errors import VolantError
from volant.core.selector import parse_selector


@click.command(
    epilog=f"""
    \b
    Examples:
      volar top
      volar top --sort memory -n 10
      volar top -l app=shop --interval 5s
      volar top --once | head

    On a terminal until Ctrl-C, elsewhere once.
    {EXPLAINED}"""
)
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="Only those whose labels match.")
@click.option("--sort", type=click.Choice(SORTS), default="cpu", show_default=True, help="What comes first.")
@click.option("-n", "--rows", type=click.IntRange(1, 100_000), metavar="COUNT", help="At most so many.")
@click.option("--interval", type=Duration(), default="2s", show_default=True, help="How often.")
@click.option("--once", is_flag=True, help="Once, on a terminal too.")
@format_option("table", "json")
@pass_session
def top(session: Session, selector: str, sort: str, rows: int | None, interval: float, once: bool, output: str) -> None:
    """Show what all VMs that run use, the busiest first."""
    view = _View(session, str(parse_selector(selector, "--selector")), sort, rows)
    if output == "json":
        print_document({"items": view.read()})
    elif once or not sys.stdout.isatty():
        for line in view.draw():
            click.echo(line)
    else:
        view.draw()  # what is wrong is told before the screen is taken
        show_again(view.draw_patiently, interval)


class _View:
    def __init__(self, session: Session, selector: str, sort: str, rows: int | None) -> None:
        self._session = session
        self._selector = selector
        self._sort = sort
        self._rows = rows
        self._before: Moment | None = None
        self._shown: list[str] = []

    def read(self) -> list[dict[str, Any]]:
        found = self._session.client.vms.all_stats(self._selector)["items"]
        return sort_stats(found, self._sort, self._before)[: self._rows]

    def draw(self) -> list[str]:
        found = self._session.client.vms.all_stats(self._selector)
        items, now_s = found["items"], time.monotonic()
        ordered = sort_stats(items, self._sort, self._before)[: self._rows]
        table = [*format_table(HEADER, (describe_stats(one, now_s, self._before) for one in ordered))]
        self._before = Moment(now_s, {one["name"]: one for one in items})
        self._shown = [*_summarise(items, len(found["unread"])), "", *table]
        return self._shown

    def draw_patiently(self) -> list[str]:
        """As ``draw``; while volantd does not answer what was shown last, and why."""
        try:
            return self.draw()
        except VolantError as error:
            return [f"volar: {error.message}", *self._shown]


def _summarise(items: list[dict[str, Any]], unread: int) -> list[str]:
    cpu = sum(one["cpu_percent"] for one in items)
    private = sum(one["process_private_bytes"] for one in items)
    shared = max((one["memory_shared_bytes"] for one in items), default=0)
    missing = f", {unread} could not be asked" if unread else ""
    count = f"{len(items)} VM{'' if len(items) == 1 else 's'} running{missing}"
    return [f"{count}; cpu {cpu:.1f}%, memory {format_size(private)} of their own, up to {format_size(shared)} shared"]
