"""What a person sees while a build runs: a live line on a terminal, plain lines elsewhere, or a JSON object a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import msgspec

if TYPE_CHECKING:
    from rich.status import Status

REPORT_PERIOD_S = 1.0
"""How often at most the bytes of a step are told of as an event."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Step:
    """One thing that is being done. Any thread may tell it of bytes or of lines."""

    def __init__(self, text: str, began: float, on_change: Callable[[Step], None], on_say: Callable[[Step], None]) -> None:
        self.text = text
        self.began = began
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self.detail = ""
        self._on_change = on_change
        self._on_say = on_say

    def count(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """So many bytes of ``total_bytes`` are done. Part by part: see ``add``."""
        self.done_bytes = done_bytes
        self.total_bytes = total_bytes if total_bytes is not None else self.total_bytes
        self._on_change(self)

    def add(self, more_bytes: int) -> None:
        self.count(self.done_bytes + more_bytes)

    def say(self, line: str) -> None:
        """The last line of a program that talks."""
        self.detail = line
        self._on_say(self)

    def describe(self, now: float) -> str:
        """``Fetching web: 12.0 of 80.3 MiB, 5.1 MiB/s``."""
        parts = self.text
        if self.done_bytes or self.total_bytes:
            parts += f": {format_progress(self.done_bytes, self.total_bytes, now - self.began)}"
        return f"{parts} · {self.detail}" if self.detail else parts


class Progress:
    """``quiet`` says nothing at all; ``as_json`` writes events instead of words."""

    def __init__(
        self, stream: TextIO, *, quiet: bool = False, as_json: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._as_json = as_json and not quiet
        self._now = now
        self._active: list[Step] = []
        self._status: Status | None = None
        self._reported: dict[str, float] = {}
        self._is_terminal = not quiet and not as_json and stream.isatty()

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show ``text`` while the block runs, and how long it took when it has."""
        step = Step(text, self._now(), self._on_change, self._on_say)
        self._active.append(step)
        self._emit("started", step)
        self._show()
        try:
            yield step
        except BaseException:
            self._emit("failed", step)
            raise
        finally:
            self._active.remove(step)
            self._show()
        took_s = self._now() - step.began
        self._emit("done", step, took_s)
        if not self._as_json:
            size = f", {format_size(step.done_bytes)}" if step.done_bytes else ""
            self.note(f"{text}: {took_s:.1f} s{size}")

    def note(self, text: str) -> None:
        if self._as_json:
            self._write({"event": "note", "text": text})
        elif not self._quiet:
            print(f"fledge: {text}", file=self._stream, flush=True)

    def _on_change(self, step: Step) -> None:
        if self._is_terminal:
            self._show()
        elif self._as_json:
            now = self._now()
            if now - self._reported.get(step.text, step.began) >= REPORT_PERIOD_S:
                self._reported[step.text] = now
                self._emit("progress", step)

    def _on_say(self, step: Step) -> None:
        if self._is_terminal:
            self._show()
        elif self._as_json:
            self._emit("output", step)
        else:
            self.note(f"{step.text} | {step.detail}")

    def _emit(self, event: str, step: Step, took_s: float | None = None) -> None:
        if not self._as_json:
            return
        line: dict[str, object] = {"event": event, "step": step.text}
        if step.done_bytes or step.total_bytes:
            line |= {"done_bytes": step.done_bytes, "total_bytes": step.total_bytes}
        if step.detail and event in ("progress", "output"):
            line["detail"] = step.detail
        if took_s is not None:
            line["took_s"] = round(took_s, 3)
        self._write(line)

    def _write(self, line: dict[str, object]) -> None:
        self._stream.write(msgspec.json.encode(line).decode() + "\n")
        self._stream.flush()

    def _show(self) -> None:
        if not self._is_terminal:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(file=self._stream).status("")
            self._status.start()
        if self._active:
            from rich.text import Text

            now = self._now()
            # As text, for what programs say may look like markup.
            self._status.update(Text("; ".join(step.describe(now) for step in self._active), no_wrap=True, overflow="ellipsis"))
        else:
            self._status.stop()
            self._status = None


def format_size(size_bytes: float) -> str:
    """``512 B``, ``1.4 MiB``."""
    unit = 0
    while size_bytes >= 1024 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{size_bytes:.0f} {_UNITS[0]}" if unit == 0 else f"{size_bytes:.1f} {_UNITS[unit]}"


def format_progress(done_bytes: int, total_bytes: int | None, took_s: float) -> str:
    """``12.0 MiB of 80.3 MiB, 5.1 MiB/s``."""
    rate = f", {format_size(done_bytes / took_s)}/s" if took_s > 0.5 else ""
    return format_size(done_bytes) + (f" of {format_size(total_bytes)}" if total_bytes else "") + rate
