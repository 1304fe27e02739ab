"""Being attached to a simulated workload: it prints what is logged, and logs what is typed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from volant.core.log import LogSource
from volant.guest.deadline import first_of
from volant.guest.message import encode_message
from volant.guest.records import ExecDecoder, ExecType, encode_exec
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_types import Refusal
from volant.guest.stream import Stream

_BATCH = 64


async def run_attach(guest: SimulatedGuest, stream: Stream, opening: dict[str, Any], first: bytes) -> None:
    """Answer an attach stream from its opening to its end. A line of input is logged as the workload's.

    Raises:
        Refusal: the workload has no stdin, or somebody else is its writer.
    """
    assert guest.workload is not None
    wants_stdin, has_stdin = opening.get("stdin", False), guest.workload.stdin is True or guest.workload.tty is True
    if not isinstance(wants_stdin, bool):
        raise Refusal("malformed", "stdin")
    if wants_stdin and not has_stdin:
        raise Refusal("not_permitted", "the workload was started without stdin")
    if wants_stdin and guest.writer is not None and not guest.writer.is_over:
        raise Refusal("busy", "somebody else writes to the workload")
    guest.writer = stream if wants_stdin else guest.writer
    try:
        first_kept, after = guest.logged.range
        after = first_kept if opening.get("replay") is True and has_stdin else after
        await stream.write(encode_message({"ok": {"tty": guest.workload.tty is True, "pid": guest.pid}}))
        ended = await first_of(_print(guest, stream, after - 1), _type(guest, stream, first))
        if ended is not None:
            await stream.write(encode_exec(ExecType.END, msgspec.json.encode(ended)))
        stream.finish()
    finally:
        if guest.writer is stream:
            guest.writer = None


async def _print(guest: SimulatedGuest, stream: Stream, after: int) -> dict[str, int] | None:
    """Returns how the workload ended, once it has for good."""
    while True:
        seen = guest.version
        records = guest.logged.read(after, _BATCH)
        for record in records:
            after = record.seq
            if record.source is not LogSource.KESTREL:
                kind = ExecType.STDERR if record.source is LogSource.STDERR else ExecType.STDOUT
                await stream.write(encode_exec(kind, record.data + b"\n"))
        if not records:
            if guest.workload_end is not None:
                return guest.workload_end
            await guest.wait_changed(seen)


async def _type(guest: SimulatedGuest, stream: Stream, first: bytes) -> None:
    """Returns when the host detached."""
    decoder, line = ExecDecoder("host", tty=guest.workload is not None and guest.workload.tty is True), bytearray()
    data = first or await stream.read()
    while data:
        for kind, content in decoder.feed(data):
            if kind is ExecType.SIGNAL:
                guest.crash_workload({"signal": content[0]})
            elif kind is ExecType.STDIN:
                line += content.replace(b"\r", b"\n")
                *whole, rest = line.split(b"\n")
                for text in whole:
                    guest.log(bytes(text))
                line = bytearray(rest)
                await asyncio.sleep(0)
        data = await stream.read()
