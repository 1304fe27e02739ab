"""``volar vms call``: ask an operation of a workload's own API."""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import quote

import click

from volant.cli.answer import print_answer, read_content, read_headers
from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import InvalidInput, NotFound

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DIRECT = re.compile(r"([A-Za-z]+):(/.*)")
_PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")


def complete_operations(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from volant.core.errors import VolantError

    name = ctx.params.get("name")
    session = ctx.find_object(Session) or Session()
    try:
        found = session.client.workloads.operations(name) if name else []
    except VolantError:
        return []
    return [one["id"] for one in found if one["id"] and one["id"].lower().startswith(incomplete.lower())]


@click.command(
    epilog="""
    \b
    Examples:
      volar vms operations web
      volar vms call web listPets --query limit=10
      volar vms call web getPet --path id=7 -i
      volar vms call web createPet --body '{"name": "Rex"}'
      volar vms call web PUT:/files/a.txt --body-file a.txt -H 'Content-Type: text/plain'
      tar c site | volar vms call web POST:/upload --body-file -

    \b
    Exit codes, by the workload's status: 0 below 400, 2 for 400 and 422, 3 for 404 and 410, 4 for 409 and 412,
    1 for the rest.
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.argument("operation", metavar="OPERATION", shell_complete=complete_operations)
@click.option("--path", "paths", multiple=True, metavar="NAME=VALUE", help="A {NAME} of the path; may be repeated.")
@click.option("-q", "--query", "queries", multiple=True, metavar="NAME=VALUE", help="A query parameter; may be repeated.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated.")
@click.option("-d", "--body", metavar="TEXT", help="What to send; JSON unless a header says otherwise.")
@click.option("--body-file", metavar="FILE", help="A file to send, - for stdin.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long the answer may take to begin.")
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers first.")
@pass_session
def call(
    session: Session,
    name: str,
    operation: str,
    paths: tuple[str, ...],
    queries: tuple[str, ...],
    headers: tuple[str, ...],
    body: str | None,
    body_file: str | None,
    timeout: float,
    include: bool,
) -> None:
    """Ask OPERATION of the workload of the VM NAME: one of volar vms operations, or METHOD:/path."""
    query = [read_pair(word, "--query") for word in queries]
    given = dict(read_pair(word, "--path") for word in paths)
    sent = read_headers(headers)
    content, length = read_content(body, body_file)
    wanted = find_operation(session, name, operation)
    _check_query(wanted, query)
    if content is not None and not any(header.lower() == "content-type" for header in sent):
        sent["Content-Type"] = (wanted["body_types"] or ["application/json"])[0]
    if content is None and wanted["body_required"]:
        raise InvalidInput(f"{operation} needs something to be sent", hint="--body TEXT, or --body-file FILE")
    with session.client.workloads.call(
        name,
        wanted["method"],
        fill_path(wanted["target"], given),
        query=query,
        headers={**sent, **length},
        content=content,
        timeout_s=timeout,
    ) as answer:
        raise Ended(print_answer(answer, include=include))


def find_operation(session: Session, name: str, operation: str) -> dict[str, Any]:
    """The operation of that id, in whatever case, or ``METHOD:/path``. Raises NotFound, InvalidInput."""
    if match := _DIRECT.fullmatch(operation):
        method = match[1].upper()
        if method not in _METHODS:
            raise InvalidInput(f"{match[1]!r} is no method", hint=f"one of {', '.join(_METHODS)}")
        return {"method": method, "target": match[2], "parameters": [], "body_types": [], "body_required": False}
    found = session.client.workloads.operations(name)
    matching = [one for one in found if one["id"] == operation] or [
        one for one in found if one["id"].lower() == operation.lower()
    ]
    if not matching:
        close = difflib.get_close_matches(operation, [one["id"] for one in found if one["id"]], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"volar vms operations {name}"
        raise NotFound(f"the workload of {name!r} has no operation {operation!r}", hint=hint)
    return matching[0]


def fill_path(target: str, given: dict[str, str]) -> str:
    """``target`` with every ``{name}`` replaced, percent-encoded. Raises InvalidInput for one that is missing or too many."""
    wanted = _PLACEHOLDER.findall(target)
    for name in wanted:
        if not given.get(name):
            raise InvalidInput(f"the path {target} needs {name}", field="--path", hint=f"--path {name}=VALUE")
    for name in given:
        if name not in wanted:
            raise InvalidInput(f"the path {target} has no {{{name}}}", field="--path")
    return _PLACEHOLDER.sub(lambda match: quote(given[match[1]], safe=""), target)


def _check_query(wanted: dict[str, Any], query: list[tuple[str, str]]) -> None:
    for parameter in wanted["parameters"]:
        if parameter["in"] == "query" and parameter["required"] and parameter["name"] not in dict(query):
            raise InvalidInput(
                f"the operation needs the query parameter {parameter['name']}",
                field="--query",
                hint=f"--query {parameter['name']}=VALUE",
            )


def read_pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise InvalidInput(f"{option} {word[:80]!r} is not NAME=VALUE")
    return key, value
