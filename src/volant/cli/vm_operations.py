"""``volar vms operations``: what a workload says of its own API."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Session, complete_vms, pass_session


@click.command(
    epilog="""
    \b
    Examples:
      volar vms operations web
      volar vms operations web --json | jq -r '.items[].id'
      volar vms operations web --openapi > web.json
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("--openapi", is_flag=True, help="Print the whole OpenAPI document instead.")
@format_option("table", "json", "name")
@pass_session
def operations(session: Session, name: str, openapi: bool, output: str) -> None:
    """List the operations of the workload of the VM NAME, from its OpenAPI document. Ask one with volar vms call."""
    if openapi:
        print_document(session.client.workloads.openapi(name))
        return
    found = session.client.workloads.operations(name)
    if output == "json":
        print_document({"items": found})
    elif output == "name":
        for one in found:
            click.echo(name_of(one))
    elif not found:
        click.echo("its document describes no operation", err=True)
    else:
        print_table(("OPERATION", "METHOD", "PATH", "NEEDS", "SUMMARY"), (_row(one) for one in found))


def name_of(operation: dict[str, Any]) -> str:
    """What volar vms call takes for it."""
    return operation["id"] or f"{operation['method']}:{operation['target']}"


def _row(operation: dict[str, Any]) -> list[str]:
    needs = [f"{one['in']} {one['name']}" for one in operation["parameters"] if one["required"]]
    needs += ["body"] if operation["body_required"] else []
    return [name_of(operation), operation["method"], operation["path"], ", ".join(needs), operation["summary"][:80]]
