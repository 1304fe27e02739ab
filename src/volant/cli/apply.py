"""``volar apply``: have resources be as files say."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from volant.cli.apply_options import file_options, force_option, load_documents, manager_option, with_client_errors
from volant.cli.failure import FAILED, exit_code_of, print_error, print_volant_error, printable
from volant.cli.output import format_option, print_document
from volant.cli.progress import Say, show_progress
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import InvalidInput, NotFound, TimedOut, Unavailable, VolantError

if TYPE_CHECKING:
    from volant.cli.documents import Document
    from volant.client.client import Client

SHOWN = 3
"""So many changes stand on a line."""

LOOK_S = 2.0
"""How long one look at what is waited for lasts, so that its progress is shown."""


@click.command(
    epilog="""
    \b
    Examples:
      volar apply -f web.yaml
      volar apply -f shop/ -R --wait
      volar vms get web -o yaml | sed 's/memory_mb: .*/memory_mb: 512/' | volar apply -f -
      volar apply -f shop/ --prune -l app=shop --yes
      volar apply -f web.yaml --dry-run
    """
)
@file_options
@manager_option
@force_option
@click.option("--reason", default="", metavar="TEXT", help="Why: kept with the versions that this makes.")
@click.option("--dry-run", is_flag=True, help="Have volantd say what would be, and write nothing.")
@click.option("--wait", is_flag=True, help="Until everything is as it was asked for, or has failed.")
@click.option("--timeout", type=Duration(), default="300s", show_default=True, help="How long to wait, for all together.")
@click.option("--keep-going", is_flag=True, help="After a document that fails, too.")
@click.option("--prune", is_flag=True, help="Delete what was applied before, has the labels of -l, and is not in the files.")
@click.option("-l", "--selector", "selector", metavar="KEY=VALUE,...", help="For --prune.")
@click.option("-y", "--yes", is_flag=True, help="Delete without asking.")
@format_option("table", "json", "name")
@pass_session
def apply(
    session: Session,
    /,
    files: tuple[str, ...],
    recursive: bool,
    manager: str,
    force_conflicts: bool,
    reason: str,
    dry_run: bool,
    wait: bool,
    timeout: float,
    keep_going: bool,
    prune: bool,
    selector: str | None,
    yes: bool,
    output: str,
) -> None:
    """Make or change what the files describe, so that it is as they say.

    A file may name all fields of a resource or some; those that it leaves out stay as they are, or as by default. What was in
    the file the last time and is not now goes back to its default. A field that somebody else decides (another manager, or a
    change by hand) is a conflict unless both want the same: nothing is changed then.
    """
    labels = _read_selector(selector, prune, yes=yes, dry_run=dry_run)
    documents = load_documents(files, recursive=recursive)
    client = session.client
    applied, failed = _apply_all(
        client,
        documents,
        manager=manager,
        force=force_conflicts,
        reason=reason,
        dry_run=dry_run,
        keep_going=keep_going,
        output=output,
    )
    pruned: list[dict[str, Any]] = []
    if labels is not None and not failed:
        pruned = _prune(client, manager, labels, documents, yes=yes, dry_run=dry_run, output=output)
    if wait and not dry_run and applied and not failed:
        failed = _wait_all(client, [one["resource"] for one in applied], timeout, quiet=output != "table")
    if output == "json":
        print_document({"items": applied, "pruned": pruned})
    if failed:
        raise Ended(failed)


def _apply_all(
    client: Client,
    documents: list[Document],
    *,
    manager: str,
    force: bool,
    reason: str,
    dry_run: bool,
    keep_going: bool,
    output: str,
) -> tuple[list[dict[str, Any]], int]:
    """What became of each, and the exit code of the first that failed."""
    send = with_client_errors(send_document)
    applied: list[dict[str, Any]] = []
    failed = 0
    for place, document in enumerate(documents):
        try:
            quiet = output != "table"
            answer = send(document, client, manager=manager, force=force, reason=reason, dry_run=dry_run, quiet=quiet)
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
            left = len(documents) - place - 1
            if keep_going and not isinstance(error, Unavailable):
                continue
            if left:
                print_error(
                    f"{left} more {_plural(left, 'document')} not applied", "apply them all again: what is as it should be stays"
                )
            break
        applied.append(answer)
        if output == "name":
            click.echo(document.reference)
        elif output == "table":
            click.echo(printable(f"{document.reference} {describe_answer(answer)}") + (" (dry run)" if dry_run else ""))
    return applied, failed


def send_document(
    document: Document, client: Client, *, manager: str, force: bool, dry_run: bool, reason: str = "", quiet: bool = True
) -> dict[str, Any]:
    """Apply it, with the files that it needs. Raises VolantErrors."""
    if document.files and not dry_run:
        from volant.cli.plugin_files import LocalManifest
        from volant.cli.plugin_transfer import send_files

        send_files(client, LocalManifest(document.content["manifest"], document.files, None), quiet=quiet)
    return client.applications.apply(document.content, manager=manager, force=force, dry_run=dry_run, reason=reason)


def describe_answer(answer: dict[str, Any]) -> str:
    """``changed (replicas 2 -> 3, and 4 more)``."""
    changes = answer["changes"]
    if not changes:
        return str(answer["action"])
    shown = [_describe_change(change) for change in changes[:SHOWN]]
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return f"{answer['action']} ({', '.join([*shown, *more])})"


def _describe_change(change: dict[str, Any]) -> str:
    before, after = _shorten(change["before"]), _shorten(change["after"])
    needs = "" if change["effect"] in ("live", "applied") else f", {change['effect']}"
    return f"{change['path']} {before} -> {after}{needs}"


def _shorten(value: Any) -> str:
    if isinstance(value, dict | list) and value:
        return "{…}" if isinstance(value, dict) else "[…]"
    text = value if isinstance(value, str) and value else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else text[:39] + "…"


def _read_selector(selector: str | None, prune: bool, *, yes: bool, dry_run: bool) -> dict[str, str] | None:
    """The labels of what may be deleted; None when nothing is. Raises InvalidInput before anything is done."""
    from volant.cli.vm_create import read_pairs

    if not prune:
        if selector is not None:
            raise InvalidInput("-l is for --prune", hint="what is applied is what is in the files")
        return None
    labels = read_pairs(tuple(selector.split(",")), "-l") if selector else {}
    if not labels:
        raise InvalidInput("--prune needs the label of what belongs to these files", hint="for example --prune -l app=shop")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise InvalidInput("there is nobody to ask whether to delete", hint="say --yes, or look first: --dry-run")
    return labels


def _prune(
    client: Client,
    manager: str,
    labels: dict[str, str],
    documents: list[Document],
    *,
    yes: bool,
    dry_run: bool,
    output: str,
) -> list[dict[str, Any]]:
    from volant.cli.documents import name_resource

    kept = {document.reference for document in documents}
    found = [one for one in client.applications.list_applied(manager, labels) if name_resource(one) not in kept]
    # What needs another goes before that. A node is nothing that a file made, and what has an owner goes with that.
    gone = [one for one in reversed(found) if one["kind"] != "Node" and not one.get("owner")]
    if not gone:
        return []
    if not yes and not dry_run:
        click.echo("these were applied before and are not in the files:", err=True)
        for one in gone:
            click.echo(f"  {name_resource(one)}", err=True)
        if not click.confirm(f"Delete {_plural(len(gone), 'it', 'them')}?", err=True):
            click.echo("nothing is deleted", err=True)
            return []
    for one in gone:
        if not dry_run:
            delete_resource(client, one)
        if output == "table":
            click.echo(f"{name_resource(one)} pruned" + (" (dry run)" if dry_run else ""))
    return gone


def delete_resource(client: Client, resource: dict[str, Any]) -> None:
    """Delete what was read as ``resource``, unless it was changed or replaced since."""
    import contextlib

    from volant.core.document_schema import KINDS

    with contextlib.suppress(NotFound):
        client.applications.delete(
            KINDS[resource["kind"]].plural, resource["name"], wait=True, timeout_s=60.0, generation=resource["generation"]
        )


def _wait_all(client: Client, resources: list[dict[str, Any]], timeout_s: float, *, quiet: bool) -> int:
    """Wait for each in turn; the exit code of the first that failed."""
    from volant.cli.documents import name_resource

    deadline = time.monotonic() + timeout_s
    failed = 0
    with show_progress(quiet=quiet) as say:
        for resource in resources:
            try:
                standing = _wait_one(client, resource, deadline, timeout_s, say)
            except VolantError as error:
                print_volant_error(error)
                failed = failed or exit_code_of(error)
                if isinstance(error, Unavailable | TimedOut):
                    break
                continue
            if standing["failed"]:
                kind, name = resource["kind"], resource["name"]
                print_error(f"{name_resource(resource)}: {standing['message']}", f"volar events --for {name}" if kind else None)
                failed = failed or FAILED
    return failed


def _wait_one(client: Client, resource: dict[str, Any], deadline: float, timeout_s: float, say: Say) -> dict[str, Any]:
    from volant.cli.documents import name_resource

    kind, name = resource["kind"], resource["name"]
    message = ""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimedOut(f"{name_resource(resource)} is not settled after {timeout_s:g} s: {message}", hint="it goes on")
        standing = client.applications.standing(kind, name, timeout_s=max(0.001, min(LOOK_S, left_s)))
        if standing["settled"]:
            return standing
        message = standing["message"]
        say(f"{name_resource(resource)}: {message}")


def _plural(count: int, one: str, many: str | None = None) -> str:
    return one if count == 1 else many or f"{one}s"
