"""What a person sees while a build runs: a spinner on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """``quiet`` says nothing at all."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._active: list[str] = []
        self._status: Status | None = None
        self._terminal = not quiet and stream.isatty()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show ``text`` while the block runs, and how long it took when it has."""
        began = time.monotonic()
        self._active.append(text)
        self._show()
        try:
            yield
        finally:
            self._active.remove(text)
            self._show()
        self.note(f"{text}: {time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        if not self._quiet:
            print(f"fledge: {text}", file=self._stream, flush=True)

    def _show(self) -> None:
        if not self._terminal:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(file=self._stream).status("")
            self._status.start()
        if self._active:
            self._status.update("; ".join(self._active))
        else:
            self._status.stop()
            self._status = None
