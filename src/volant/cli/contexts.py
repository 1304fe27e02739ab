"""``volar context``: which volantd is spoken to."""

from __future__ import annotations

from pathlib import Path

import click

from volant.cli.context import Context, Contexts, check_context_name, choose_context, config_file, read_contexts, write_contexts
from volant.cli.output import format_option, print_document, print_table
from volant.cli.session import Session, pass_session
from volant.core.errors import AlreadyExists, InvalidInput, NotFound


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar context add lab --api http://127.0.0.1:7777 --token-file ~/lab.token --use
      volar context list
      volar --context lab vms list
      volar context use lab
    """,
)
def context() -> None:
    """Work with several volantds. --api, then --context, then VOLANT_API, then VOLANT_CONTEXT, then the current one counts."""


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [one.name for one in read_contexts(config_file()).contexts if one.name.startswith(incomplete)]


@context.command(name="list", epilog="\b\nExamples:\n  volar context list\n  volar context list -o name")
@format_option("table", "json", "name")
def list_(output: str) -> None:
    """List contexts; the one in use has a star."""
    found = read_contexts(config_file())
    if output == "json":
        print_document({"items": [_describe(one, found) for one in found.contexts]})
    elif output == "name":
        for one in found.contexts:
            click.echo(one.name)
    elif not found.contexts:
        click.echo("there are no contexts; add one: volar context add NAME --api ADDRESS", err=True)
    else:
        rows = (("*" if one.name == found.current else " ", one.name, one.address, one.token_file) for one in found.contexts)
        print_table(("USED", "NAME", "ADDRESS", "TOKEN FILE"), rows)


@context.command(epilog="\b\nExamples:\n  volar context show\n  volar context show lab --json")
@click.argument("name", required=False, shell_complete=_complete)
@format_option("table", "json", "name")
@pass_session
def show(session: Session, name: str | None, output: str) -> None:
    """Show the context NAME, or the one in use."""
    found = read_contexts(config_file())
    chosen = choose_context(name or session.context)
    if chosen is None:
        raise NotFound("no context is in use", hint="volar context use NAME")
    if output == "json":
        print_document(_describe(chosen, found))
    elif output == "name":
        click.echo(chosen.name)
    else:
        click.echo(f"{chosen.name}: {chosen.address}{f', token in {chosen.token_file}' if chosen.token_file else ''}")


@context.command(epilog="\b\nExamples:\n  volar context add local --api unix:///run/volant/volantd.sock --use")
@click.argument("name")
@click.option("--api", required=True, metavar="ADDRESS", help="unix:///path, or http://127.0.0.1:PORT.")
@click.option("--token-file", default="", metavar="FILE", help="A file with the token that goes with it.")
@click.option("--use", "use_it", is_flag=True, help="Use it from now on.")
@click.option("--replace", is_flag=True, help="Instead of one of this name that there is.")
def add(name: str, api: str, token_file: str, use_it: bool, replace: bool) -> None:
    """Add the context NAME."""
    from volant.client.address import read_address

    check_context_name(name)
    read_address(api)
    path = config_file()
    found = read_contexts(path)
    if not replace and any(one.name == name for one in found.contexts):
        raise AlreadyExists(f"there is a context named {name!r} already", hint="volar context add --replace, or another name")
    token = str(Path(token_file).expanduser().absolute()) if token_file else ""
    others = tuple(one for one in found.contexts if one.name != name)
    current = name if use_it or not found.contexts else found.current
    write_contexts(path, Contexts((*others, Context(name, api, token)), current))
    click.echo(f"context {name} is added{' and in use' if current == name else ''}")


@context.command(epilog="\b\nExamples:\n  volar context use lab\n  volar context use --none")
@click.argument("name", required=False, shell_complete=_complete)
@click.option("--none", "unset", is_flag=True, help="Use none: the default address counts again.")
def use(name: str | None, unset: bool) -> None:
    """Use the context NAME from now on."""
    if (name is None) != unset:
        raise InvalidInput("name a context, or --none", hint="volar context list")
    path = config_file()
    found = read_contexts(path)
    current = "" if name is None else found.find(name).name
    write_contexts(path, Contexts(found.contexts, current))
    click.echo(f"context {current} is in use" if current else "no context is in use")


@context.command(epilog="\b\nExamples:\n  volar context remove lab")
@click.argument("name", shell_complete=_complete)
def remove(name: str) -> None:
    """Forget the context NAME; nothing happens to its volantd."""
    path = config_file()
    found = read_contexts(path)
    found.find(name)
    left = tuple(one for one in found.contexts if one.name != name)
    write_contexts(path, Contexts(left, "" if found.current == name else found.current))
    click.echo(f"context {name} is removed")


def _describe(one: Context, all_: Contexts) -> dict[str, object]:
    return {"name": one.name, "address": one.address, "token_file": one.token_file, "current": one.name == all_.current}
