"""The options that ``apply``, ``diff`` and ``delete`` have in common, and how they tell what is wrong with documents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from volant.cli.failure import BAD_INPUT, exit_code_of, print_volant_error
from volant.cli.session import Ended

if TYPE_CHECKING:
    from volant.cli.documents import Document

MANAGER = "volar"


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``-f`` and ``-R``: the command's parameters are ``files`` and ``recursive``."""
    files = click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        required=True,
        metavar="FILE|DIR|-",
        help="YAML or JSON, a directory of such files, or - for stdin; may be repeated.",
    )
    recursive = click.option("-R", "--recursive", is_flag=True, help="Directories in directories, too.")
    return files(recursive(command))


def manager_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--manager", default=MANAGER, show_default=True, metavar="NAME", help="Who decides what is in the files from now on."
    )(command)


def force_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--force-conflicts", is_flag=True, help="Take over the fields that others decide otherwise.")(command)


def load_documents(files: tuple[str, ...], *, recursive: bool) -> list[Document]:
    """All documents, in the order in which one needs another. Raises Ended, when all that is wrong with them has been said, and
    InvalidInput for files that cannot be read."""
    from volant.cli.documents import read_documents

    documents, errors = read_documents(files, recursive=recursive)
    for error in errors:
        print_volant_error(error)
    if errors:
        raise Ended(max(BAD_INPUT, exit_code_of(errors[0])))
    return documents


def with_client_errors(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call(document, …)``, whose errors say of which document they are."""
    from volant.cli.documents import blame
    from volant.core.errors import Unavailable, VolantError

    @functools.wraps(call)
    def told(document: Document, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(document, *args, **kwargs)
        except Unavailable:
            raise  # that is no document's fault
        except VolantError as error:
            raise blame(document, error) from error

    return told
