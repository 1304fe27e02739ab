"""A console with a holder that stands in for the real one: it logs, passes on, and takes what is typed by its first client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.errors import WrongState
from volant.core.ids import Uid
from volant.core.simulated_clock import SimulatedClock
from volant.node.console_line import Connection, Consoles

UID = Uid("0190b3a0-0000-7000-8000-000000000001")


class Holder:
    def __init__(self, directory: Path) -> None:
        self.log = directory / "console.log"
        self.log.write_bytes(b"")
        self.typed = bytearray()
        self.took = asyncio.Event()
        self.accepted = asyncio.Event()
        self._path = str(directory / "console.sock")
        self._writers: list[asyncio.StreamWriter] = []
        self.consoles = Consoles(SimulatedClock())

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    def print(self, content: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(content)
        for writer in self._writers:
            writer.write(b"something")

    async def dial(self) -> Connection | None:
        return await asyncio.open_unix_connection(self._path)

    def open(self, *, write: bool = False, force: bool = False, tail_bytes: int | None = None):  # type: ignore[no-untyped-def]
        return self.consoles.open(UID, self.log, self.dial, write=write, force=force, tail_bytes=tail_bytes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.accepted.set()
        while data := await reader.read(4096):
            self.typed += data
            self.took.set()


@pytest.fixture
async def holder(tmp_path: Path) -> AsyncIterator[Holder]:
    made = Holder(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_all_see_all_and_one_types(holder: Holder) -> None:
    holder.print(b"0123456789")
    async with asyncio.timeout(10), holder.open(write=True, tail_bytes=4) as first, holder.open() as second:
        one, two = aiter(first), aiter(second)
        assert await anext(one) == b"6789"
        assert await anext(two) == b"0123456789"
        holder.print(b"more")
        assert await anext(one) == b"more"
        assert await anext(two) == b"more"
        await first.write(b"ls\r")
        await holder.took.wait()
        assert holder.typed == b"ls\r"
        with pytest.raises(WrongState, match="reading only"):
            await second.write(b"no")


async def test_a_second_who_types_is_refused_or_takes_over_and_the_first_hears_why(holder: Holder) -> None:
    async with asyncio.timeout(10), holder.open(write=True) as first:
        with pytest.raises(WrongState, match="somebody else types") as raised:
            async with holder.open(write=True):
                pass
        assert raised.value.hint is not None
        assert "--force" in raised.value.hint
        async with holder.open(write=True, force=True) as second:
            await second.write(b"mine")
            with pytest.raises(WrongState, match="took over"):
                await anext(aiter(first))
            with pytest.raises(WrongState, match="took over"):
                await first.write(b"no")
    async with asyncio.timeout(10), holder.open(write=True) as again:
        await again.write(b"free once they went")


async def test_a_reader_that_is_slow_misses_nothing_that_the_log_has(holder: Holder) -> None:
    async with asyncio.timeout(10), holder.open() as reader:
        for number in range(1000):
            holder.print(b"%d\n" % number)
        seen = b""
        async for content in reader:
            seen += content
            if seen.endswith(b"999\n"):
                break
        assert seen == b"".join(b"%d\n" % number for number in range(1000))


async def test_it_ends_when_the_vm_is_deleted(holder: Holder, tmp_path: Path) -> None:
    unit = tmp_path / "unit"
    unit.mkdir()
    holder.log = unit / "console.log"
    holder.log.write_bytes(b"last words")
    async with asyncio.timeout(10), holder.open() as reader:
        contents = aiter(reader)
        assert await anext(contents) == b"last words"
        await holder.accepted.wait()
        holder.log.unlink()
        unit.rmdir()
        holder._writers[0].write(b"wake")
        with pytest.raises(StopAsyncIteration):
            await anext(contents)
