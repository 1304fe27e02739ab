"""Lines of several VMs on one terminal, each with its VM's name before it, in a colour of its own."""

from __future__ import annotations

import re
import threading
import zlib

import click

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green", "bright_magenta")
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;]{0,32}m")


class Prefixed:
    """Prints whole lines, whoever comes with them. One VM alone has no prefix."""

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        self._printing = threading.Lock()
        self._width = 0
        self._open: dict[tuple[str, bool], str] = {}

    def add(self, name: str) -> None:
        """There are lines of ``name`` to come."""
        with self._printing:
            self._width = max(self._width, len(name))

    def print(self, name: str, text: str, *, err: bool = False, nl: bool = True) -> None:
        """``text`` is one line, or with ``nl`` False the beginning of one."""
        with self._printing:
            if self._alone:
                click.echo(text, err=err, nl=nl)
                return
            whole = self._open.pop((name, err), "") + text
            if nl or len(whole) > 16384:
                click.echo(f"{self._style(name)} {whole}", err=err)
            else:
                self._open[(name, err)] = whole

    def finish(self, name: str) -> None:
        """No more of ``name`` comes: what it left without its end is printed."""
        for err in (False, True):
            if (name, err) in self._open:
                self.print(name, "", err=err)

    def _style(self, name: str) -> str:
        colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
        return click.style(f"{name.ljust(self._width)} |", fg=colour)


def clean_line(text: str) -> str:
    """``text`` without what a terminal would obey but colours, which end with the line."""
    kept = []
    at = 0
    for match in _COLOUR_CODES.finditer(text):
        kept += [_strip(text[at : match.start()]), match[0]]
        at = match.end()
    kept.append(_strip(text[at:]))
    return "".join(kept) + ("\x1b[0m" if at else "")


def _strip(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == "\t")
