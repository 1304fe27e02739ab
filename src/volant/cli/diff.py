"""``volar diff``: what applying files would change."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import click

from volant.cli.apply_options import file_options, force_option, load_documents, manager_option, with_client_errors
from volant.cli.failure import BAD_INPUT, exit_code_of, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.session import Ended, Session, pass_session
from volant.core.errors import Unavailable, VolantError

SAME, DIFFERS = 0, 1
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_NOT_COMPARED = frozenset(
    {"api", "status", "uid", "project", "generation", "revision", "created_at", "deleting_at", "finalizers", "owner", "managers"}
)


@click.command(
    epilog="""
    \b
    Examples:
      volar diff -f web.yaml
      volar diff -f shop/ -R && echo nothing would change

    \b
    Exit codes: 0 nothing would change, 1 something would, 2 and more: it cannot be told.
    """
)
@file_options
@manager_option
@force_option
@click.option(
    "-U", "--context", "context", type=click.IntRange(0, 1000), default=3, show_default=True, help="Lines around a change."
)
@format_option("table", "json")
@pass_session
def diff(
    session: Session,
    /,
    files: tuple[str, ...],
    recursive: bool,
    manager: str,
    force_conflicts: bool,
    context: int,
    output: str,
) -> None:
    """Show what volar apply would change: what there is, and what volantd says there would be."""
    from volant.cli.apply import send_document

    documents = load_documents(files, recursive=recursive)
    send = with_client_errors(send_document)
    answers: list[dict[str, Any]] = []
    failed = 0
    for document in documents:
        try:
            answer = send(document, session.client, manager=manager, force=force_conflicts, dry_run=True)
        except VolantError as error:
            print_volant_error(error)
            # 1 is a difference.
            failed = failed or max(BAD_INPUT, exit_code_of(error))
            if isinstance(error, Unavailable):
                break
            continue
        answers.append(answer)
        if output == "table":
            for line in compare_resources(document.reference, answer["before"], answer["resource"], context):
                click.echo(click.style(line, fg=_COLOURS.get(line[:1]), bold=line.startswith(("---", "+++"))))
    if output == "json":
        print_document({"items": answers})
    if failed:
        raise Ended(failed)
    raise Ended(DIFFERS if any(answer["action"] != "unchanged" for answer in answers) else SAME)


def compare_resources(reference: str, before: dict[str, Any] | None, after: dict[str, Any], context: int = 3) -> Iterator[str]:
    """The lines of a unified diff; none where both are the same."""
    old, new = ([] if one is None else _write(one) for one in (before, after))
    yield from difflib.unified_diff(
        old, new, f"{reference} (is)" if old else f"{reference} (is not there)", f"{reference} (would be)", n=context, lineterm=""
    )


def _write(resource: dict[str, Any]) -> list[str]:
    from volant.cli.document import Rendering, render

    shown = {key: value for key, value in resource.items() if key not in _NOT_COMPARED and value is not None}
    # As one line each: a terminal obeys what else a label may hold.
    return ["".join(c if c.isprintable() else "?" for c in line) for line in render(shown, Rendering("yaml")).split("\n")]
