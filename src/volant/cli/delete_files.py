"""``volar delete``: delete what files describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volant.cli.apply_options import file_options, load_documents, with_client_errors
from volant.cli.failure import exit_code_of, print_error, print_volant_error
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import NotFound, Unavailable, VolantError

if TYPE_CHECKING:
    from volant.cli.documents import Document
    from volant.client.client import Client


@click.command(
    epilog="""
    \b
    Examples:
      volar delete -f web.yaml
      volar delete -f shop/ -R --no-wait
    """
)
@file_options
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait for each.")
@click.option("--keep-going", is_flag=True, help="After one that cannot be deleted, too.")
@pass_session
def delete(session: Session, /, files: tuple[str, ...], recursive: bool, no_wait: bool, timeout: float, keep_going: bool) -> None:
    """Delete what the files describe, what needs another before that. What is not there is passed over; nodes stay.

    Only kinds and names are looked at.
    """
    documents = load_documents(files, recursive=recursive)
    remove = with_client_errors(_remove)
    failed = 0
    for place, document in enumerate(reversed(documents)):
        try:
            click.echo(f"{document.reference} {remove(document, session.client, wait=not no_wait, timeout_s=timeout)}")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
            left = len(documents) - place - 1
            if keep_going and not isinstance(error, Unavailable):
                continue
            if left:
                print_error(f"{left} more not deleted", "see volar delete --help: --keep-going")
            break
    if failed:
        raise Ended(failed)


def _remove(document: Document, client: Client, *, wait: bool, timeout_s: float) -> str:
    from volant.core.document_schema import KINDS

    if document.kind == "Node":
        return "stays: it is a host"
    try:
        gone = client.applications.delete(KINDS[document.kind].plural, document.name, wait=wait, timeout_s=timeout_s)
    except NotFound:
        return "is not there"
    return "deleted" if gone else "is being deleted"
