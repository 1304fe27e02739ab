"""What commands print on stdout: tables for people, documents for programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from volant.cli.colour import paint
from volant.cli.document import Rendering, read_rendering, render
from volant.cli.failure import printable
from volant.core.errors import InvalidInput
from volant.core.resource import Resource, to_wire

_RENDERING = "volant.cli.rendering"
_HEADERS = "volant.cli.headers"
DOCUMENTS = ("json", "yaml", "jsonpath=…", "custom-columns=…")


class _Format(click.ParamType[str]):
    name = "format"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)

    def shown(self) -> tuple[str, ...]:
        """What may be given, in the order of help."""
        plain = [word for word in self.words if word not in ("json", "name")]
        documents = DOCUMENTS if "json" in self.words else ()
        return (*plain, *documents, *(["name"] if "name" in self.words else []))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self.shown())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.words and value != "json":
            return str(value)
        rendering = read_rendering(value) if "json" in self.words else None
        if rendering is None:
            raise InvalidInput(f"{value[:40]!r} is no format", field="output", hint=f"one of {', '.join(self.shown())}")
        if ctx is not None:
            ctx.meta[_RENDERING] = rendering
        return "json"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        words = [word.removesuffix("…") for word in self.shown()]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def format_option(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``-o FORMAT``, ``--json`` and ``--no-headers``; the command's parameter is ``output``.

    ``formats`` are of ``table``, ``wide``, ``json`` and ``name``. Whatever document is asked for (JSON, YAML, what a path finds),
    the command sees ``json`` and calls ``print_document``, which knows.
    """
    words = formats or ("table", "wide", "json", "name")

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_output(*args: Any, as_json: bool, no_headers: bool, output: str, **kwargs: Any) -> Any:
            context = click.get_current_context()
            context.meta[_HEADERS] = not no_headers
            if as_json:
                context.meta[_RENDERING] = Rendering()
            return command(*args, output="json" if as_json else output, **kwargs)

        headers = click.option("--no-headers", is_flag=True, help="Print a table without its first line.")
        json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document; the same as -o json.")
        choice = click.option("-o", "--output", "output", type=_Format(words), default="table", help="How to print.")
        return choice(json_option(headers(with_output)))

    return decorate


def print_document(document: object) -> None:
    """One document, indented JSON unless ``-o`` asked for another."""
    context = click.get_current_context(silent=True)
    meta = {} if context is None else context.meta
    rendering: Rendering = meta.get(_RENDERING, Rendering())
    text = render(document, rendering, headers=meta.get(_HEADERS, True))
    click.echo(text, nl=rendering.kind != "jsonpath")


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
    context = click.get_current_context(silent=True)
    headers = True if context is None else context.meta.get(_HEADERS, True)
    for line in format_table(header, rows, headers=headers, coloured=True):
        click.echo(line)


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, headers: bool = True, coloured: bool = False
) -> Iterator[str]:
    """The lines of ``print_table``."""
    first = list(header)
    lines = [*([first] if headers else []), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(first) if lines else 0)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths[:-1], strict=True)]
        if coloured and line is not first:
            padded = [paint(text, cell) for text, cell in zip(padded, line[:-1], strict=True)]
        yield "  ".join([*padded, line[-1]]).rstrip()


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One field a line, its value where all values begin."""
    for field, value in fields:
        click.echo(f"{field + ':':<12} {printable(value)}")
