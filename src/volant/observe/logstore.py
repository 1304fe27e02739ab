"""The log of one VM on disk: bounded, append-only, whole after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from volant.core.log import LogRecord
from volant.observe.segment import (
    SegmentWriter,
    encode_line,
    encode_marker,
    list_segments,
    name_segment,
    read_at,
    read_before,
    read_forwards,
)

DEFAULT_MAX_BYTES = 8 * 1024 * 1024
DEFAULT_FILES = 2
_READ_BATCH = 256
_OFFSET_BITS = 32


class LogEntry(msgspec.Struct, frozen=True):
    """A stored line. ``missed`` counts the lines lost just before it; ``position`` is where to go on after it."""

    run_id: str
    record: LogRecord
    missed: int
    position: int


class RunLog:
    """Where the lines of one run go; a LogSink for the guest's collector."""

    def __init__(self, store: LogStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    async def last_seq(self) -> int:
        """The highest sequence number stored of this run, 0 for none."""
        return await self._store.last_seq(self._run_id)

    async def append(self, records: Sequence[LogRecord]) -> None:
        await self._store.append(self._run_id, records)


class LogStore:
    """Segments of about ``max_bytes``, the newest ``files`` of them kept, in ``directory`` (made when first written to).

    Every run begins with a marker, because sequence numbers start anew with every boot. No file is opened before it is
    needed. A position is a segment's number and an offset in it; it rises with every entry.
    """

    def __init__(self, directory: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, files: int = DEFAULT_FILES) -> None:
        if files < 1 or not 0 < max_bytes < 1 << (_OFFSET_BITS - 1):
            raise ValueError("a log needs at least one file and less than 2 GiB for each")
        self._directory = directory
        self._max_bytes = max_bytes
        self._files = files
        self._in_turn = asyncio.Lock()
        self._writing = threading.Lock()  # A cancelled append goes on in its thread.
        self._grown = asyncio.Event()
        self._is_finished = False
        self._writer: SegmentWriter | None = None
        self._run_id = ""
        self._last_seq = 0

    def begin_run(self, run_id: str) -> RunLog:
        """Where the lines of ``run_id`` go, begun now or by an earlier volantd."""
        return RunLog(self, run_id)

    async def last_seq(self, run_id: str) -> int:
        """The highest sequence number stored of ``run_id``; 0 for none, or when another run was written to since."""
        async with self._in_turn:
            return await asyncio.to_thread(self._read_last_seq, run_id)

    async def append(self, run_id: str, records: Sequence[LogRecord]) -> None:
        """Store ``records`` of one run, their sequence numbers rising. Those stored already are passed over; a jump is kept
        as ``missed`` of the line behind it.

        Raises:
            OSError: the disk did not take them. Append them again: what was stored is not stored twice.
        """
        async with self._in_turn:
            await asyncio.to_thread(self._append, run_id, records)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def find_runs(self) -> list[str]:
        """The runs of which something is stored, oldest first."""
        found: list[str] = []
        for number in list_segments(self._directory):
            markers: list[str] = []
            with self._open_segment(number) as stream:
                end = stream.seek(0, 2)
                while (entry := read_before(stream, end)) is not None:
                    marker = read_at(stream, entry.marker_at)
                    if marker is None:
                        break
                    markers.append(marker.run_id)
                    end = entry.marker_at
            found.extend(run_id for run_id in reversed(markers) if run_id not in found)
        return found

    def read(
        self, *, after: int | None = None, since_ns: int | None = None, tail: int | None = None, run_id: str | None = None
    ) -> Iterator[LogEntry]:
        """Stored lines, oldest first: those behind position ``after``, from the time ``since_ns`` on, of one run, and of
        what is left the last ``tail``. Reads files: call it in a thread."""
        position = after or 0
        if tail is not None and since_ns is None and run_id is None:
            position = max(position, self._find_tail(tail))
        found = (
            entry
            for entry in self._read_from(position)
            if (since_ns is None or entry.record.time_ns >= since_ns) and (run_id is None or entry.run_id == run_id)
        )
        if tail is None:
            return found
        # A damaged line can end the search for the tail too early.
        return iter(deque(found, maxlen=tail))

    async def follow(self, *, after: int | None = None) -> AsyncIterator[LogEntry]:
        """Every line behind position ``after``, and then each as it is stored, until ``finish``."""
        position = after or 0
        while True:
            grown = self._grown
            entries = await asyncio.to_thread(self._read_batch, position)
            for entry in entries:
                position = entry.position
                yield entry
            if not entries and self._is_finished:
                return
            if not entries:
                await grown.wait()

    def finish(self) -> None:
        """Nothing more comes: whoever follows gets to the end. The files may be removed afterwards."""
        self._is_finished = True
        self._grown.set()
        self.close()

    def close(self) -> None:
        """Let go of the open file; the next append opens it again."""
        with self._writing:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _read_last_seq(self, run_id: str) -> int:
        with self._writing:
            if self._directory.exists():
                self._open()
            return self._last_seq if run_id == self._run_id else 0

    def _open(self) -> SegmentWriter:
        if self._writer is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            numbers = list_segments(self._directory)
            self._writer = SegmentWriter(self._directory, numbers[-1] if numbers else 1)
            if self._writer.last is not None:
                self._run_id, self._last_seq = self._writer.last
        return self._writer

    def _append(self, run_id: str, records: Sequence[LogRecord]) -> None:
        with self._writing:
            self._open()
            seq = self._last_seq if run_id == self._run_id else 0
            fresh = [record for record in records if record.seq > seq]
            while fresh:
                writer = self._open()
                if writer.size >= self._max_bytes:
                    writer = self._rotate(writer)
                fresh = self._append_some(writer, run_id, fresh)

    def _append_some(self, writer: SegmentWriter, run_id: str, records: list[LogRecord]) -> list[LogRecord]:
        """Store what the segment has room for, at least one record; return the others."""
        seq = self._last_seq if run_id == self._run_id else 0
        content = bytearray()
        marker_at = writer.marker_at
        if writer.size == 0 or run_id != self._run_id:
            marker_at = writer.size
            content += encode_marker(run_id, seq, marker_at)
        taken = 0
        for record in records:
            content += encode_line(record, missed=record.seq - seq - 1, marker_at=marker_at)
            seq = record.seq
            taken += 1
            if writer.size + len(content) >= self._max_bytes:
                break
        writer.append(content)
        writer.marker_at = marker_at
        self._run_id, self._last_seq = run_id, seq
        return records[taken:]

    def _rotate(self, writer: SegmentWriter) -> SegmentWriter:
        self._close()
        self._writer = SegmentWriter(self._directory, writer.number + 1)
        for number in list_segments(self._directory)[: -self._files]:
            (self._directory / name_segment(number)).unlink(missing_ok=True)
        return self._writer

    @contextlib.contextmanager
    def _open_segment(self, number: int) -> Iterator[BinaryIO]:
        """The segment for reading; an empty file when it was rotated away meanwhile."""
        try:
            stream: BinaryIO = (self._directory / name_segment(number)).open("rb")
        except FileNotFoundError:
            stream = BytesIO()
        with stream:
            yield stream

    def _find_tail(self, count: int) -> int:
        """The position behind which the last ``count`` lines lie."""
        for number in reversed(list_segments(self._directory)):
            with self._open_segment(number) as stream:
                end = stream.seek(0, 2)
                while (entry := read_before(stream, end)) is not None:
                    if entry.record is not None:
                        if count <= 0:
                            return _position(number, end)
                        count -= 1
                    end = entry.begin
        return 0

    def _read_from(self, position: int) -> Iterator[LogEntry]:
        first, offset = position >> _OFFSET_BITS, position & ((1 << _OFFSET_BITS) - 1)
        for number in list_segments(self._directory):
            if number < first:
                continue
            run_id = ""
            with self._open_segment(number) as stream:
                begin = offset if number == first else 0
                if begin and (at := read_at(stream, begin)) is not None and (marker := read_at(stream, at.marker_at)) is not None:
                    run_id = marker.run_id
                for entry in read_forwards(stream, begin):
                    if entry.record is None:
                        run_id = entry.run_id
                    else:
                        yield LogEntry(run_id, entry.record, entry.missed, _position(number, entry.end))

    def _read_batch(self, position: int) -> list[LogEntry]:
        return list(itertools.islice(self._read_from(position), _READ_BATCH))


def _position(number: int, offset: int) -> int:
    return number << _OFFSET_BITS | offset
