"""``volar events``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import click

from volant.cli.failure import printable
from volant.cli.output import print_document, print_line_document
from volant.cli.session import Session, complete_vms, pass_session
from volant.client.client import Client
from volant.core.errors import Compacted, InvalidInput, Unavailable
from volant.core.event import Event
from volant.core.moment import parse_time
from volant.core.resource import to_wire

_KINDS = {
    **dict.fromkeys(("vm", "vms"), "VM"),
    **dict.fromkeys(("plugin", "plugins"), "Plugin"),
    **dict.fromkeys(("snapshot", "snapshots"), "Snapshot"),
    **dict.fromkeys(("template", "templates"), "Template"),
    **dict.fromkeys(("network", "networks"), "Network"),
    **dict.fromkeys(("node", "nodes"), "Node"),
}
_TYPES = {"normal": "Normal", "warning": "Warning"}
AGAIN_MIN_S, AGAIN_MAX_S = 0.2, 5.0


@click.command(
    epilog="""
    \b
    Examples:
      volar events
      volar events -f
      volar events --for vm/web -n 20
      volar events --types Warning --since 10m
      volar events --for vm/web --types Warning -f
      volar events -f --json | jq -r .reason

    With -f it goes on when volantd was restarted, from where it was.
    """
)
@click.option("-f", "-w", "--follow", "--watch", "follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "--for",
    "about",
    metavar="[KIND/]NAME",
    help="Only about that: web, vm/web, plugin/nginx; vm/ is about every VM.",
    shell_complete=complete_vms,
)
@click.option("--types", metavar="TYPE,...", help="Only Normal or Warning ones.")
@click.option("--since", metavar="WHEN", help="Only what happened since: 5m ago, or 2026-01-31T12:00:00Z.")
@click.option("-n", "--tail", "limit", type=click.IntRange(0, 1_000_000), metavar="COUNT", help="Only the latest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; with -f one a line.")
@pass_session
def events(
    session: Session, follow: bool, about: str | None, types: str | None, since: str | None, limit: int | None, as_json: bool
) -> None:
    """Show what happened, oldest first."""
    kind, name = read_about(about)
    holds = _make_filter(types, since)
    found, place = session.client.events.list(about_kind=kind, about_name=name)
    found = [event for event in found if holds(event)]
    if limit is not None:
        found = found[max(0, len(found) - limit) :]
    if as_json and not follow:
        print_document({"items": [to_wire(event) for event in found]})
        return
    for event in found:
        _print(event, as_json)
    if follow:
        for event in follow_events(session.client, place, kind, name):
            if holds(event):
                _print(event, as_json)
    elif not found:
        click.echo("nothing has happened", err=True)


def follow_events(client: Client, place: str, kind: str | None, name: str | None) -> Iterator[Event]:
    """What comes after ``place``, for ever: a volantd that went away is asked again from the last that was seen."""
    pause = threading.Event()
    again_s = AGAIN_MIN_S
    while True:
        try:
            for seen, event in client.events.follow(place, about_kind=kind, about_name=name):
                place = seen or place
                again_s = AGAIN_MIN_S
                yield event
        except Unavailable:
            pass
        except Compacted:
            click.echo("volar: some events were missed: volantd no longer has them", err=True)
            place = ""
        pause.wait(again_s)
        again_s = min(2 * again_s, AGAIN_MAX_S)


def read_about(about: str | None) -> tuple[str | None, str | None]:
    """The kind and the name in ``vm/web``, ``web`` or ``vm/``. Raises InvalidInput."""
    if about is None:
        return None, None
    before, slash, after = about.rpartition("/")
    if not slash:
        return None, about
    kind = _KINDS.get(before.lower())
    if kind is None:
        raise InvalidInput(f"there is no kind {before[:40]!r}", field="--for", hint="vm, plugin, snapshot, network or node")
    return kind, after or None


def _make_filter(types: str | None, since: str | None) -> Callable[[Event], bool]:
    wanted = set()
    for word in (types or "").split(","):
        if word and word.strip().lower() not in _TYPES:
            raise InvalidInput(f"{word[:40]!r} is no type of event", field="--types", hint="Normal or Warning")
        if word:
            wanted.add(_TYPES[word.strip().lower()])
    begin = None
    if since is not None:
        from volant.cli.vm_logs import read_since

        try:
            begin = parse_time(read_since(since, datetime.now(UTC)))
        except ValueError as error:
            raise InvalidInput(f"--since {since!r} is no moment", hint="write 5m, or 2026-01-31T12:00:00Z") from error
    return lambda event: (not wanted or event.spec.type in wanted) and (begin is None or parse_time(event.spec.at) >= begin)


def _print(event: Event, as_json: bool) -> None:
    if as_json:
        print_line_document(to_wire(event))
        return
    spec = event.spec
    at = parse_time(spec.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    often = f" (×{spec.count})" if spec.count > 1 else ""
    about = f"{spec.about_kind.lower()}/{spec.about_name}"
    kind = click.style(f"{spec.type:<7}", fg="red" if spec.type == "Warning" else None)
    click.echo(f"{at}  {kind}  {about:<20}  {spec.reason:<18}  {printable(spec.message)}{often}")
