"""``volar events``."""

from __future__ import annotations

import click

from volant.cli.failure import printable
from volant.cli.output import print_document, print_line_document
from volant.cli.session import Session, complete_vms, pass_session
from volant.core.event import Event
from volant.core.moment import parse_time
from volant.core.resource import to_wire


@click.command(
    epilog="""
    \b
    Examples:
      volar events
      volar events -f
      volar events --for web -n 20
      volar events -f --json | jq -r .reason
    """
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--for", "name", metavar="NAME", help="Only about the resource of this name.", shell_complete=complete_vms)
@click.option("-n", "--tail", "limit", type=click.IntRange(0, 1_000_000), metavar="COUNT", help="Only the latest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; with -f one a line.")
@pass_session
def events(session: Session, follow: bool, name: str | None, limit: int | None, as_json: bool) -> None:
    """Show what happened, oldest first."""
    found, since = session.client.events.list(about_name=name, limit=limit)
    if as_json and not follow:
        print_document({"items": [to_wire(event) for event in found]})
        return
    for event in found:
        _print(event, as_json)
    if follow:
        for _, event in session.client.events.follow(since, about_name=name):
            _print(event, as_json)
    elif not found:
        click.echo("nothing has happened", err=True)


def _print(event: Event, as_json: bool) -> None:
    if as_json:
        print_line_document(to_wire(event))
        return
    spec = event.spec
    at = parse_time(spec.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    often = f" (×{spec.count})" if spec.count > 1 else ""
    about = f"{spec.about_kind.lower()}/{spec.about_name}"
    click.echo(f"{at}  {spec.type:<7}  {about:<20}  {spec.reason:<18}  {printable(spec.message)}{often}")
