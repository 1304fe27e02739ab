"""What is said on stderr while something is waited for: a spinner on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from volant.cli.failure import printable

Say = Callable[[str], None]


@contextlib.contextmanager
def show_progress(quiet: bool = False) -> Iterator[Say]:
    """Gives a function that is told what is being waited for."""
    if quiet:
        yield lambda _text: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:
            yield lambda text: status.update(Text(printable(text)))
    else:
        yield _line_printer()


def _line_printer() -> Say:
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            click.echo(printable(text), err=True)
            last = text

    return say
