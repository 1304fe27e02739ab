from __future__ import annotations

import io
import json

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


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_events_are_one_json_object_a_line() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, as_json=True, now=clock)
    with progress.step("Fetching") as step:
        step.count(0, 2048)
        clock.now += 2
        step.add(1024)
        step.add(1)
        step.say("a line")
        clock.now += 2
        step.add(1023)
    progress.note("and more")

    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"event": "started", "step": "Fetching"},
        {"event": "progress", "step": "Fetching", "done_bytes": 1024, "total_bytes": 2048},
        {"event": "output", "step": "Fetching", "done_bytes": 1025, "total_bytes": 2048, "detail": "a line"},
        {"event": "progress", "step": "Fetching", "done_bytes": 2048, "total_bytes": 2048, "detail": "a line"},
        {"event": "done", "step": "Fetching", "done_bytes": 2048, "total_bytes": 2048, "took_s": 4.0},
        {"event": "note", "text": "and more"},
    ]


def test_a_failed_step_is_an_event_of_its_own() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress(stream, as_json=True).step("Unpacking"):
        raise ValueError("no")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["started", "failed"]


def test_plain_lines_have_what_a_program_says_and_how_much_it_was() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, now=clock).step("Building") as step:
        step.say("STEP 1/2: FROM scratch")
        step.add(3 << 20)
        clock.now += 3
    assert stream.getvalue().splitlines() == [
        "fledge: Building | STEP 1/2: FROM scratch",
        "fledge: Building: 3.0 s, 3.0 MiB",
    ]


def test_a_live_line_has_sizes_and_a_rate() -> None:
    clock = Clock()
    with Progress(io.StringIO(), now=clock).step("Fetching") as step:
        assert step.describe(clock()) == "Fetching"
        step.count(0, 80 << 20)
        assert step.describe(clock()) == "Fetching: 0 B of 80.0 MiB"
        step.count(12 << 20)
        assert step.describe(clock() + 2) == "Fetching: 12.0 MiB of 80.0 MiB, 6.0 MiB/s"
        step.detail = "layer 2"
        assert step.describe(clock() + 2).endswith(" · layer 2")
