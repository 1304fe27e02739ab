"""``volar quotas``: the group and its commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_resources
from volant.cli.session import Ended, Session, pass_session
from volant.core.errors import InvalidInput, VolantError
from volant.core.quota import Quota
from volant.core.resource import to_wire

NONE = "none"
_FIELDS = (
    ("vms", "vms", "VMs"),
    ("cpu", "cpu_cores", "Cores of all VMs together"),
    ("memory", "memory_mb", "Memory of all VMs together"),
    ("disk", "disk_mb", "Disk of all VMs together"),
    ("deployments", "deployments", "Deployments"),
    ("jobs", "jobs", "Jobs"),
)


class LimitType(click.ParamType[Any]):
    """A number, a size such as ``8G`` in MiB where ``is_size``, or ``none``."""

    name = "limit"

    def __init__(self, *, is_size: bool) -> None:
        self._is_size = is_size

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SIZE|none" if self._is_size else "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == NONE:
            return NONE
        return read_size_mb(value, param.name or "" if param else "") if self._is_size else _read_count(value, param)


def read_size_mb(text: str, field: str) -> int:
    """``512``, ``512M`` or ``1G`` as MiB. Raises InvalidInput."""
    factor = {"M": 1, "G": 1024, "T": 1024 * 1024}.get(text[-1:].upper(), 0)
    digits = text[:-1] if factor else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        raise InvalidInput(f"{text[:40]!r} is not a size", field=field, hint="write 512M or 1G; a bare number is MiB")
    return int(digits) * (factor or 1)


def _read_count(text: str, param: click.Parameter | None) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        field = param.name if param is not None else None
        raise InvalidInput(f"{text[:40]!r} is not a number", field=field, hint=f"0 or more, or {NONE}")
    return int(text)


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option, field, words in reversed(_FIELDS):
        kind = LimitType(is_size=field.endswith("_mb"))
        command = click.option(f"--{option}", field, type=kind, help=f"{words}; none is no limit.")(command)
    return command


def _chosen(limits: dict[str, Any]) -> dict[str, Any]:
    return {field: None if value == NONE else value for field, value in limits.items() if value is not None}


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar quotas create lab --vms 50 --memory 64G
      volar quotas get lab
      volar quotas set lab --cpu none
    """,
)
def quotas() -> None:
    """Limit what a project may have."""


@quotas.command(
    name="list",
    epilog="\b\nExamples:\n  volar quotas list\n  volar quotas list --json",
)
@format_option()
@pass_session
def list_(session: Session, output: str) -> None:
    """List quotas, with what is used of each."""
    found = session.client.quotas.list()
    print_resources(found, output, lambda wide: _tabulate(found), "there are no quotas")


@quotas.command(epilog="\b\nExamples:\n  volar quotas get lab\n  volar quotas get lab --json")
@click.argument("name")
@format_option("table", "json", "name")
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the quota NAME, and what is used of it."""
    quota = session.client.quotas.get(name)
    if output == "json":
        print_document(to_wire(quota))
    elif output == "name":
        click.echo(quota.name)
    else:
        print_fields(_describe(quota))


@quotas.command(
    epilog="""
    \b
    Examples:
      volar quotas create lab --vms 50 --cpu 100 --memory 64G --disk 1T
    """
)
@click.argument("name")
@_limit_options
@click.option("--dry-run", is_flag=True, help="Check it, and write nothing.")
@format_option("table", "json", "name")
@pass_session
def create(session: Session, /, name: str, dry_run: bool, output: str, **limits: Any) -> None:
    """Make the quota NAME. What is used already stays, even if it is more."""
    quota = session.client.quotas.create({"name": name, **_chosen(limits)}, dry_run=dry_run)
    _tell(quota, output, f"{name} would be made" if dry_run else f"{name} holds: {_words(quota)}")


@quotas.command(
    name="set",
    epilog="""
    \b
    Examples:
      volar quotas set lab --vms 80
      volar quotas set lab --cpu none
    """,
)
@click.argument("name")
@_limit_options
@click.option("--dry-run", is_flag=True, help="Check it, and write nothing.")
@format_option("table", "json", "name")
@pass_session
def set_(session: Session, /, name: str, dry_run: bool, output: str, **limits: Any) -> None:
    """Change limits of the quota NAME; the others stay."""
    chosen = _chosen(limits)
    if not chosen:
        raise InvalidInput("nothing is to be changed", hint="volar quotas set --help shows what can be")
    quota = session.client.quotas.edit(name, chosen, dry_run=dry_run)
    _tell(quota, output, f"{name} would hold: {_words(quota)}" if dry_run else f"{name} holds: {_words(quota)}")


@quotas.command(epilog="\b\nExamples:\n  volar quotas delete lab")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_session
def delete(session: Session, names: tuple[str, ...]) -> None:
    """Remove the quotas NAME...; what they limited stays as it is."""
    failed = 0
    for name in dict.fromkeys(names):
        try:
            session.client.quotas.delete(name)
            click.echo(f"{name} is deleted")
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
    if failed:
        raise Ended(failed)


def _tell(quota: Quota, output: str, words: str) -> None:
    if output == "json":
        print_document(to_wire(quota))
    else:
        click.echo(quota.name if output == "name" else words)


def _words(quota: Quota) -> str:
    parts = [f"{field} {getattr(quota.spec, field)}" for _, field, _ in _FIELDS if getattr(quota.spec, field) is not None]
    return ", ".join(parts)


def _used(quota: Quota, field: str) -> str:
    limit, used = getattr(quota.spec, field), getattr(quota.status, field)
    return f"{used} of {limit}" if limit is not None else f"{used}"


def _tabulate(found: Sequence[Quota]) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "VMS", "CPU", "MEMORY MiB", "DISK MiB", "DEPLOYMENTS", "JOBS", "AGE"]
    rows = ([one.name, *(_used(one, field) for _, field, _ in _FIELDS), format_since(one.meta.created_at)] for one in found)
    return header, rows


def _describe(quota: Quota) -> Iterable[tuple[str, str]]:
    yield "Name", quota.name
    for option, field, _ in _FIELDS:
        unit = " MiB" if field.endswith("_mb") else ""
        over = getattr(quota.spec, field) is not None and getattr(quota.status, field) > getattr(quota.spec, field)
        yield option.capitalize(), f"{_used(quota, field)}{unit}" + (" (more than allowed)" if over else "")
    if quota.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(quota.meta.labels.items()))
