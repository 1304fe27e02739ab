from __future__ import annotations

import io

import pytest

from volant.fledge.progress import Progress


def test_finished_steps_are_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()

    with Progress(stream).step("Unpacking"):
        assert stream.getvalue() == ""

    line = stream.getvalue()
    assert line.startswith("fledge: Unpacking: ")
    assert line.endswith(" s\n")


def test_a_failed_step_is_not_called_done() -> None:
    stream = io.StringIO()

    with pytest.raises(ValueError, match="no"), Progress(stream).step("Unpacking"):
        raise ValueError("no")

    assert stream.getvalue() == ""


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()

    with Progress(stream, quiet=True).step("Unpacking"):
        pass

    assert stream.getvalue() == ""


def test_a_terminal_gets_a_spinner_that_ends_with_the_steps() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress(stream).step("Unpacking"):
        pass

    assert "Unpacking: " in stream.getvalue()
