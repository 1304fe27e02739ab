"""What commands print on stdout: tables for people, documents for programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
import msgspec

from volant.cli.failure import printable
from volant.core.resource import Resource, to_wire


def format_option(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``-o FORMAT`` and ``--json``; the command's parameter is ``output``."""
    choices = formats or ("table", "wide", "json", "name")

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_output(*args: Any, as_json: bool, output: str, **kwargs: Any) -> Any:
            return command(*args, output="json" if as_json else output, **kwargs)

        json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document; the same as -o json.")
        choice = click.option(
            "-o", "--output", "output", type=click.Choice(choices), default="table", help="How to print.", show_default=True
        )
        return choice(json_option(with_output))

    return decorate


def print_document(document: object) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def print_line_document(document: object) -> None:
    """One JSON document on one line, for outputs that go on."""
    click.echo(msgspec.json.encode(document).decode())


def print_resources(
    resources: Sequence[Resource[Any, Any]],
    output: str,
    table: Callable[[bool], tuple[Sequence[str], Iterable[Sequence[str]]]],
    nothing: str,
) -> None:
    """``table(wide)`` gives the header and the rows; ``nothing`` is said on stderr instead of an empty table."""
    if output == "json":
        print_document({"items": [to_wire(one) for one in resources]})
    elif output == "name":
        for one in resources:
            click.echo(one.name)
    elif not resources:
        click.echo(nothing, err=True)
    else:
        print_table(*table(output == "wide"))


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns two spaces apart, as wide as their widest cell; the last is not padded."""
    lines = [list(header), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths[:-1], strict=True)]
        click.echo("  ".join([*padded, line[-1]]).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One field a line, its value where all values begin."""
    for field, value in fields:
        click.echo(f"{field + ':':<12} {printable(value)}")
