"""One document, in the words that somebody asked for: JSON, YAML, what a path finds in it, or columns of one's own."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from volant.core.errors import InvalidInput

Kind = Literal["json", "yaml", "jsonpath", "custom-columns"]

COLUMNS_HINT = "for example -o custom-columns=NAME:.name,IP:.status.addresses[0].ip"


class Rendering(NamedTuple):
    """``argument`` is the template of ``jsonpath`` and ``custom-columns``."""

    kind: Kind = "json"
    argument: str = ""


def read_rendering(text: str) -> Rendering | None:
    """``json``, ``yaml``, ``jsonpath=TEMPLATE`` or ``custom-columns=NAME:PATH,…``; None for what is none of these.

    Raises:
        InvalidInput: the template or the columns cannot be read, so that nothing is asked of volantd first.
    """
    kind, equals, argument = text.partition("=")
    match kind:
        case "json" | "yaml" if not equals:
            return Rendering(kind)
        case "jsonpath":
            from volant.cli.jsonpath import HINT, read_template

            if not argument:
                raise InvalidInput("jsonpath needs a template", field="output", hint=HINT)
            read_template(argument)
        case "custom-columns":
            _read_columns(argument)
        case _:
            return None
    return Rendering(kind, argument)


def render(document: Any, rendering: Rendering, *, headers: bool = True) -> str:
    """``document`` as text without its last newline; in columns a list's ``items`` are the rows."""
    match rendering.kind:
        case "json":
            return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        case "yaml":
            import yaml

            plain = msgspec.json.decode(msgspec.json.encode(document))
            text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
            return text.rstrip("\n")
        case "jsonpath":
            from volant.cli.jsonpath import render_jsonpath

            return render_jsonpath(rendering.argument, msgspec.json.decode(msgspec.json.encode(document)))
        case "custom-columns":
            return _render_columns(msgspec.json.decode(msgspec.json.encode(document)), rendering.argument, headers)


def _read_columns(text: str) -> list[tuple[str, Any]]:
    from volant.cli.jsonpath import read_path

    columns = []
    for column in _split_columns(text):
        name, colon, path = column.partition(":")
        if not name or not colon or not path:
            raise InvalidInput(f"{column[:80]!r} is not a column", field="output", hint=COLUMNS_HINT)
        columns.append((name, read_path(path.removeprefix("{").removesuffix("}"))))
    return columns


def _split_columns(text: str) -> list[str]:
    """At the commas outside of brackets."""
    columns, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            columns.append(text[begin:at])
            begin = at + 1
    return [*columns, text[begin:]]


def _render_columns(document: Any, text: str, headers: bool) -> str:
    from volant.cli.jsonpath import format_value
    from volant.cli.output import format_table

    columns = _read_columns(text)
    items = document["items"] if isinstance(document, dict) and isinstance(document.get("items"), list) else [document]
    rows = [[",".join(format_value(value) for value in path.find(item)) or "<none>" for _, path in columns] for item in items]
    return "\n".join(format_table([name for name, _ in columns], rows, headers=headers))
