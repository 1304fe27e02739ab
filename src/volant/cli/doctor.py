"""``volar doctor``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from volant.cli.failure import FAILED, printable
from volant.cli.output import print_document
from volant.cli.session import Ended, Session, pass_session
from volant.core.errors import CommandFailed, Forbidden, HostError, Unavailable
from volant.run import run

CHECK_S = 120.0


@click.command(
    epilog="""
    \b
    Examples:
      volar doctor
      volar doctor --json | jq '.items[] | select(.state != "ok")'
    """
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_session
def doctor(session: Session, as_json: bool) -> None:
    """Check the host: what works, and what to do about the rest.

    Asks volantd; without one, runs its checks (volantd --check). Exits with 1 when one fails.
    """
    try:
        found = session.client.system.checks()
    except (Unavailable, Forbidden) as error:
        if not as_json:
            click.echo(f"{error.message}; checking without it", err=True)
        found = asyncio.run(check_without_daemon())
    items = found["items"]
    if as_json:
        print_document(found)
    else:
        _print_checks(items)
    if any(item["state"] == "failed" for item in items):
        raise Ended(FAILED)


def _print_checks(items: list[dict[str, Any]]) -> None:
    marks = {"ok": "ok", "warning": "warn", "failed": "FAIL"}
    width = max((len(str(item["name"])) for item in items), default=0)
    for item in items:
        click.echo(f"{marks.get(item['state'], item['state']):<4}  {item['name']:<{width}}  {printable(item['message'])}")
        if item.get("fix"):
            click.echo(f"{'':<4}  {'':<{width}}  -> {item['fix']}")
    failed = sum(item["state"] == "failed" for item in items)
    warned = sum(item["state"] == "warning" for item in items)
    click.echo(f"{len(items)} checks: {failed} failed, {warned} with warnings")


async def check_without_daemon() -> dict[str, Any]:
    """The document that ``volantd --check --json`` prints. Raises HostError when it cannot be had."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("VOLANT_")}
    try:
        # Its exit status says whether a check failed, as the document does.
        done = await run([_find_volantd(), "--check", "--json"], timeout_s=CHECK_S, env=settings, check=False)
        found: dict[str, Any] = msgspec.json.decode(done.stdout)
    except CommandFailed as error:
        raise HostError("volantd is not installed here", hint="install Volant, or say where one answers: VOLANT_API") from error
    except msgspec.DecodeError as error:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise HostError(f"volantd --check failed: {said[-1] if said else f'status {done.exit_status}'}") from error
    return found


def _find_volantd() -> str:
    beside = Path(sys.executable).parent / "volantd"
    return str(beside) if beside.exists() else shutil.which("volantd") or "volantd"
