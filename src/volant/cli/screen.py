"""A screen that is drawn again and again until Ctrl-C."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

import click

_ENTER, _LEAVE, _HOME = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H"
_TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[K", "\x1b[J"


def show_again(draw: Callable[[], list[str]], interval_s: float) -> None:
    """Show the lines of ``draw`` every ``interval_s``, on a screen of their own on terminals and one after the other elsewhere.
    Ends with Ctrl-C, quietly."""
    tick = threading.Event()
    with contextlib.suppress(KeyboardInterrupt), _screen() as is_screen:
        while True:
            lines = draw()
            if is_screen:
                columns, rows = shutil.get_terminal_size()
                shown = [_cut(line, columns) + _TO_END_OF_LINE for line in lines[: rows - 1]]
                click.echo(_HOME + "\n".join(shown) + "\n" + _TO_END_OF_SCREEN, nl=False, color=True)
            else:
                click.echo("\n".join([*lines, ""]))
            sys.stdout.flush()
            tick.wait(interval_s)


def _cut(line: str, columns: int) -> str:
    """A line without styles as wide as there is room; one with styles is left to the terminal."""
    return line if "\x1b" in line else line[:columns]


@contextlib.contextmanager
def _screen() -> Iterator[bool]:
    if not sys.stdout.isatty():
        yield False
        return
    click.echo(_ENTER, nl=False, color=True)
    try:
        yield True
    finally:
        click.echo(_LEAVE, nl=False, color=True)
        sys.stdout.flush()
