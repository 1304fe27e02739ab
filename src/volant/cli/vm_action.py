"""``volar vms actions`` and ``volar vms action``: what a plugin's manifest lets one ask of its workload."""

from __future__ import annotations

import click

from volant.cli.answer import print_answer, read_content, read_headers
from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.cli.vm_wait import Duration


def complete_actions(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from volant.core.errors import VolantError

    name = ctx.params.get("name")
    session = ctx.find_object(Session) or Session()
    try:
        found = session.client.workloads.actions(name) if name else []
    except VolantError:
        return []
    return [one["name"] for one in found if one["name"].startswith(incomplete)]


@click.command(epilog="\b\nExamples:\n  volar vms actions web\n  volar vms actions web --json")
@click.argument("name", shell_complete=complete_vms)
@format_option("table", "json", "name")
@pass_session
def actions(session: Session, name: str, output: str) -> None:
    """List the actions that the plugin of the VM NAME has."""
    found = session.client.workloads.actions(name)
    if output == "json":
        print_document({"items": found})
    elif output == "name":
        for one in found:
            click.echo(one["name"])
    elif not found:
        click.echo("its plugin has no actions", err=True)
    else:
        rows = ([one["name"], one["method"], one["path"], one["description"]] for one in found)
        print_table(("ACTION", "METHOD", "PATH", "DESCRIPTION"), rows)


@click.command(
    epilog="""
    \b
    Examples:
      volar vms action web reload
      volar vms action web resize --body '{"workers": 4}'
      volar vms action web import --body-file data.json -i

    Exit codes are those of volar vms call.
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.argument("action", metavar="ACTION", shell_complete=complete_actions)
@click.option("-d", "--body", metavar="TEXT", help="What to send; JSON unless a header says otherwise.")
@click.option("--body-file", metavar="FILE", help="A file to send, - for stdin.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated.")
@click.option("--timeout", type=Duration(), help="How long the answer may take to begin, instead of what the manifest says.")
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers first.")
@pass_session
def action(
    session: Session,
    name: str,
    action: str,
    body: str | None,
    body_file: str | None,
    headers: tuple[str, ...],
    timeout: float | None,
    include: bool,
) -> None:
    """Ask ACTION of the workload of the VM NAME, one of volar vms actions."""
    sent = read_headers(headers)
    content, length = read_content(body, body_file)
    if content is not None and not any(header.lower() == "content-type" for header in sent):
        sent["Content-Type"] = "application/json"
    with session.client.workloads.action(name, action, content=content, headers={**sent, **length}, timeout_s=timeout) as answer:
        raise Ended(print_answer(answer, include=include))
