"""What a Cloud Hypervisor process says of itself, and what it may say instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from volant.hypervisor.cloud_hypervisor.events import BUFFER_MAX_BYTES, Events


@pytest.fixture
def ends() -> Iterator[tuple[Events, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    events = Events(reader)
    yield events, writer
    events.close()
    os.close(writer)


def event(source: str, name: str) -> bytes:
    return (
        json.dumps({"timestamp": {"secs": 1}, "source": source, "event": name, "properties": None}, indent=2).encode() + b"\n\n"
    )


def test_the_first_end_counts(ends: tuple[Events, int]) -> None:
    events, writer = ends
    os.write(writer, event("vm", "booted") + event("vm", "rebooting") + event("vm", "shutdown"))
    events.read()
    assert events.kind == "reset"


def test_an_event_may_come_in_pieces(ends: tuple[Events, int]) -> None:
    events, writer = ends
    whole = event("vm", "shutdown")
    for at in range(len(whole)):
        os.write(writer, whole[at : at + 1])
        events.read()
        assert (events.kind == "powered_off") == (at == len(whole) - 1)


def test_nonsense_is_passed_over_and_takes_no_room(ends: tuple[Events, int]) -> None:
    events, writer = ends
    for _ in range(BUFFER_MAX_BYTES // 4096 + 2):
        os.write(writer, b"x" * 4096)
        events.read()
    assert len(events._buffer) <= BUFFER_MAX_BYTES
    os.write(writer, b'\n\n[1]\n\n{"source": 5}\n\n\xff\n\n' + event("guest", "shutdown"))
    events.read()
    assert events.kind is None
    os.write(writer, event("vm", "rebooting"))
    events.read()
    assert events.kind == "reset"


async def test_who_waits_hears_of_it(ends: tuple[Events, int]) -> None:
    events, writer = ends
    os.write(writer, event("vm", "rebooting"))
    assert await events.wait_ended() == "reset"
    assert await events.wait_ended() == "reset"
