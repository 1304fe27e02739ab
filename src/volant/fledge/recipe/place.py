"""Where in a TOML file a key stands, so that a complaint can name the line."""

from __future__ import annotations

import re
import tomllib

_TABLE = re.compile(r"\s*\[\[?\s*(?P<name>[^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*(?P<name>(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_INDEX = re.compile(r"\[\d+\]")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^.\s]+)")


def find_line(text: str, field: str) -> int | None:
    """The number of the line that sets the dotted ``field``, or else the table that it belongs to; None when neither is there."""
    wanted = _split(_INDEX.sub("", field))
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        heading, key = _TABLE.fullmatch(line), _KEY.match(line)
        if heading:
            found = table = _split(heading["name"])
        elif key:
            found = (*table, *_split(key["name"]))
        else:
            continue
        if wanted[: len(found)] == found and (best is None or len(found) > best[0]):
            best = (len(found), number)
    return best[1] if best else None


def find_error_line(error: tomllib.TOMLDecodeError) -> int | None:
    """The line that tomllib names in its message."""
    named = re.search(r"at line (\d+)", str(error))
    return int(named[1]) if named else None


def _split(name: str) -> tuple[str, ...]:
    return tuple(double or single or bare for double, single, bare in _PART.findall(name))
