"""The manual pages of all programs: ``python -m volant.manual DIRECTORY``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from volant import __version__
from volant.cli.manual import render_pages
from volant.cli.volar import volar
from volant.fledge.cli import fledge


def render_all() -> Iterator[tuple[str, str]]:
    """``(file name, page)`` of every page."""
    yield from render_pages(volar, "volar", version=__version__)
    yield from render_pages(fledge, "fledge", version=__version__)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m volant.manual DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in render_all():
        (directory / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
