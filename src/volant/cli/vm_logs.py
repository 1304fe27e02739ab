"""``volar vms logs``: of one VM, or of several together."""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import click

from volant.cli.failure import DONE, exit_code_of, print_volant_error
from volant.cli.output import print_line_document
from volant.cli.prefix import Prefixed, clean_line
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_select import Chosen, choose_vms
from volant.core.duration import parse_duration
from volant.core.errors import InvalidInput, NotFound, Unavailable, VolantError
from volant.core.moment import format_time


@click.command(
    epilog="""
    \b
    Examples:
      volar vms logs web
      volar vms logs -f --tail 20 web
      volar vms logs --since 5m web
      volar vms logs --previous web
      volar vms logs -f -l app=web
      volar vms logs --since 1h --timestamps web db

    Lines of several VMs are in the order of their times. With -f and a selector those of VMs that come later are shown as well.
    """
)
@choose_vms()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, over restarts.")
@click.option("-n", "--tail", type=click.IntRange(0, 1_000_000), metavar="LINES", help="Only the last so many, of each VM.")
@click.option("--since", metavar="WHEN", help="Only what came since: 5m ago, or 2026-01-31T12:00:00Z.")
@click.option("--previous", is_flag=True, help="Of the run before this one.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@pass_session
def logs(
    session: Session,
    chosen: Chosen,
    follow: bool,
    tail: int | None,
    since: str | None,
    previous: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Print what the workloads of VMs wrote: their stdout on stdout, their stderr on stderr."""
    moment = None if since is None else read_since(since, datetime.now(UTC))
    asked: dict[str, Any] = {"tail": tail, "since": moment, "previous": previous}
    names = chosen.list(session)
    printer = _Printer(timestamps, as_json, alone=chosen.is_named and len(names) == 1)
    for name in names:
        printer.prefixed.add(name)
    if len(names) == 1 and chosen.is_named:
        for line in session.client.vms.logs(names[0], follow=follow, **asked):
            printer.print(names[0], line)
        return
    code = _Followers(session, chosen, asked, printer).run(names) if follow else _print_merged(session, names, asked, printer)
    if code:
        raise Ended(code)


class _Printer:
    def __init__(self, timestamps: bool, as_json: bool, *, alone: bool) -> None:
        self.prefixed = Prefixed(alone=alone)
        self._alone = alone
        self._timestamps = timestamps
        self._as_json = as_json
        self._clean = sys.stdout.isatty()
        self._inside: set[str] = set()

    def print(self, name: str, line: dict[str, Any]) -> None:
        if self._as_json:
            print_line_document(line if self._alone else {"vm": name, **line})
            return
        if line.get("missed"):
            click.echo(f"volar: {line['missed']} lines of {name} were lost here", err=True)
        source = line.get("source")
        head = (f"{line['at']} " if self._timestamps else "") + ("kestrel: " if source == "kestrel" else "")
        text = clean_line(str(line["text"])) if self._clean else str(line["text"])
        if name not in self._inside:
            text = head + text
        is_partial = bool(line.get("partial"))
        (self._inside.add if is_partial else self._inside.discard)(name)
        self.prefixed.print(name, text, err=source != "stdout", nl=not is_partial)


def _print_merged(session: Session, names: list[str], asked: dict[str, Any], printer: _Printer) -> int:
    """All that there is, by time; a VM that cannot be read does not keep the others. The first failure's exit code."""
    codes: list[int] = []

    def read(name: str) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
        try:
            for line in session.client.vms.logs(name, **asked):
                yield str(line["at"]), int(line["seq"]), name, line
        except VolantError as error:
            print_volant_error(error)
            codes.append(exit_code_of(error))

    for _, _, name, line in heapq.merge(*map(read, names), key=lambda entry: entry[:3]):
        printer.print(name, line)
    for name in names:
        printer.prefixed.finish(name)
    return codes[0] if codes else DONE


class _Followers:
    """One thread a VM; with a selector one more, which sees VMs come."""

    def __init__(self, session: Session, chosen: Chosen, asked: dict[str, Any], printer: _Printer) -> None:
        self._session = session
        self._chosen = chosen
        self._asked = asked
        self._printer = printer
        self._ended: SimpleQueue[tuple[str, VolantError | BaseException | None]] = SimpleQueue()
        self._followed: set[str] = set()

    def run(self, names: list[str]) -> int:
        """Until all named VMs are gone, or for ever with a selector. The first failure's exit code."""
        client = self._session.client
        since = "" if self._chosen.is_named else client.events.list(limit=0)[1]
        for name in names:
            self._begin(name, **self._asked)
        if not self._chosen.is_named:
            threading.Thread(target=self._watch, args=(since,), name="watch", daemon=True).start()
        code = DONE
        while self._followed or not self._chosen.is_named:
            name, error = self._ended.get()
            if not name:
                if isinstance(error, VolantError):
                    print_volant_error(error)
                    return exit_code_of(error)
                raise error or RuntimeError("the watch ended")
            self._followed.discard(name)
            self._printer.prefixed.finish(name)
            if isinstance(error, VolantError) and not (isinstance(error, NotFound) and not self._chosen.is_named):
                print_volant_error(error)
                code = code or exit_code_of(error)
            elif error is not None and not isinstance(error, VolantError):
                raise error
        return code

    def _begin(self, name: str, **asked: Any) -> None:
        self._followed.add(name)
        self._printer.prefixed.add(name)
        threading.Thread(target=self._follow, args=(name, asked), name=f"logs-{name}", daemon=True).start()

    def _follow(self, name: str, asked: dict[str, Any]) -> None:
        error: BaseException | None = None
        try:
            for line in self._session.client.vms.logs(name, follow=True, **asked):
                self._printer.print(name, line)
        except BaseException as raised:  # noqa: BLE001  # it is judged where the followers end
            error = raised
        self._ended.put((name, error))

    def _watch(self, since: str) -> None:
        """Look at the list again whenever something happened to a VM."""
        try:
            for _, _event in self._session.client.events.follow(since, about_kind="VM"):
                for vm in self._session.client.vms.list(self._chosen.selector):
                    if vm.name not in self._followed:
                        self._begin(vm.name)
        except BaseException as raised:  # noqa: BLE001  # likewise
            self._ended.put(("", raised))
            return
        self._ended.put(("", Unavailable("volantd stopped", hint="follow again when it is back")))


def read_since(text: str, now: datetime) -> str:
    """RFC 3339 of a moment that is written so, or as how long ago it was."""
    if text[:4].isdecimal() and "T" in text:
        return text
    try:
        return format_time(now - timedelta(seconds=parse_duration(text)))
    except InvalidInput as error:
        raise InvalidInput(f"--since {text!r} is no moment", hint="write 5m, or 2026-01-31T12:00:00Z") from error
