from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.log import LogRecord, LogSource
from volant.observe.logstore import LogEntry, LogStore
from volant.observe.segment import list_segments, name_segment


def line(seq: int, text: str | bytes = "", *, time_ns: int | None = None) -> LogRecord:
    data = text.encode() if isinstance(text, str) else text
    return LogRecord(seq, seq * 1000 if time_ns is None else time_ns, LogSource.STDOUT, 0, data or b"line %d" % seq)


def lines(first: int, last: int) -> list[LogRecord]:
    return [line(seq) for seq in range(first, last + 1)]


def seqs(entries: object) -> list[int]:
    assert hasattr(entries, "__iter__")
    return [entry.record.seq for entry in entries]


async def test_what_was_stored_is_read_whole_and_by_another_store(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs")
    stored = [LogRecord(1, 5, LogSource.STDERR, 1, b"\xff\x00\n"), LogRecord(2, 6, LogSource.KESTREL, 0, b"")]
    await store.begin_run("a").append(stored)
    store.close()
    again = LogStore(tmp_path / "logs")
    assert [(entry.run_id, entry.record, entry.missed) for entry in again.read()] == [("a", record, 0) for record in stored]
    assert await again.begin_run("a").last_seq() == 2
    again.close()


async def test_nothing_is_opened_or_made_before_it_is_needed(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs")
    assert await store.begin_run("a").last_seq() == 0
    assert list(store.read()) == []
    assert store.find_runs() == []
    await store.append("a", [])
    assert list(store.read(tail=3)) == []
    store.close()


async def test_lines_stored_already_are_passed_over_and_gaps_are_counted(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    log = store.begin_run("a")
    await log.append(lines(1, 3))
    await log.append(lines(2, 4))
    await log.append([line(10), line(12)])
    store.close()
    await log.append(lines(12, 13))
    found = [(entry.record.seq, entry.missed) for entry in store.read()]
    assert found == [(1, 0), (2, 0), (3, 0), (4, 0), (10, 5), (12, 1), (13, 0)]
    store.close()


async def test_sequence_numbers_begin_anew_with_every_run(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    await store.append("a", lines(1, 5))
    assert await store.last_seq("b") == 0
    await store.append("b", lines(3, 4))
    assert [(entry.run_id, entry.record.seq, entry.missed) for entry in store.read(after=None)][5:] == [("b", 3, 2), ("b", 4, 0)]
    assert (await store.last_seq("a"), await store.last_seq("b")) == (0, 4)
    assert store.find_runs() == ["a", "b"]
    assert seqs(store.read(run_id="a")) == [1, 2, 3, 4, 5]
    assert seqs(store.read(run_id="a", tail=2)) == [4, 5]
    assert seqs(store.read(run_id="b")) == [3, 4]
    store.close()


async def test_the_log_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_bytes=4096, files=2)
    log = store.begin_run("run")
    for first in range(1, 2000, 50):
        await log.append([line(seq, b"x" * 100) for seq in range(first, first + 50)])
    assert sum((tmp_path / name_segment(number)).stat().st_size for number in list_segments(tmp_path)) <= 2 * (4096 + 300)
    assert len(list_segments(tmp_path)) == 2
    kept = list(store.read())
    assert seqs(kept) == list(range(kept[0].record.seq, 2001))
    assert {(entry.run_id, entry.missed) for entry in kept} == {("run", 0)}
    assert store.find_runs() == ["run"]
    store.close()
    assert await LogStore(tmp_path, max_bytes=4096).begin_run("run").last_seq() == 2000


async def test_reading_goes_on_behind_a_position_from_a_time_and_for_the_last(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_bytes=600, files=50)
    await store.append("a", lines(1, 30))
    await store.append("b", lines(1, 30))
    everything = list(store.read())
    positions = [entry.position for entry in everything]
    assert positions == sorted(set(positions))
    for number, entry in enumerate(everything):
        assert list(store.read(after=entry.position)) == everything[number + 1 :]
    for count in (0, 1, 7, 30, 31, 59, 60, 99):
        assert list(store.read(tail=count)) == everything[max(0, 60 - count) :]
    assert seqs(store.read(since_ns=29_000)) == [29, 30, 29, 30]
    assert seqs(store.read(since_ns=29_000, tail=1)) == [30]
    store.close()


@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage", "flipped"])
@pytest.mark.parametrize("size", [1, 4, 5, 9, 15, 27, 40, 45])
async def test_a_torn_tail_is_cut_on_open(tmp_path: Path, damage: str, size: int) -> None:
    store = LogStore(tmp_path)
    await store.append("a", lines(1, 5))
    store.close()
    path = tmp_path / name_segment(1)
    whole = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[:-size])
        case "zeros":
            path.write_bytes(whole + bytes(size))
        case "garbage":
            path.write_bytes(whole + bytes(range(1, size + 1)))
        case _:
            path.write_bytes(whole[:-size] + bytes([whole[-size] ^ 0x40]) + whole[len(whole) - size + 1 :])
    again = LogStore(tmp_path)
    last = await again.last_seq("a")
    assert last == (5 if damage in ("zeros", "garbage") else 4)
    await again.append("a", lines(1, 7))
    assert [(entry.run_id, entry.record.seq, entry.missed) for entry in again.read()] == [("a", seq, 0) for seq in range(1, 8)]
    again.close()


async def test_a_damaged_line_costs_itself_only(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    await store.append("a", lines(1, 5))
    store.close()
    path = tmp_path / name_segment(1)
    path.write_bytes(path.read_bytes().replace(b"line 3", b"lime 3"))
    again = LogStore(tmp_path)
    await again.append("a", lines(1, 7))
    assert seqs(again.read()) == [1, 2, 4, 5, 6, 7]
    again.close()


async def test_a_file_of_nothing_but_garbage_becomes_a_log_again(tmp_path: Path) -> None:
    (tmp_path / name_segment(4)).write_bytes(b"\xff" * 1000)
    (tmp_path / "notes.txt").write_bytes(b"somebody else's")
    store = LogStore(tmp_path)
    await store.append("a", lines(1, 2))
    assert seqs(store.read()) == [1, 2]
    store.close()


async def test_followers_hear_what_comes_over_rotations_without_polling(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_bytes=2000, files=100)
    await store.append("a", lines(1, 3))
    heard: list[LogEntry] = []

    async def follow(after: int | None, count: int) -> None:
        following = store.follow(after=after)
        async for entry in following:
            heard.append(entry)
            if len(heard) >= count:
                break
        await following.aclose()  # type: ignore[attr-defined]  # an async generator, as every async iterator made by yield

    following = asyncio.ensure_future(follow(None, 100))
    for seq in range(4, 101):
        await store.append("a", [line(seq)])
    await following
    assert seqs(heard) == list(range(1, 101))
    position = heard[-1].position
    heard.clear()
    following = asyncio.ensure_future(follow(position, 1))
    await store.append("a", [line(101)])
    await following
    assert seqs(heard) == [101]
    store.close()


async def test_a_disk_that_takes_nothing_leaves_the_log_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    store = LogStore(tmp_path)
    await store.append("a", lines(1, 2))
    real_write, calls = os.write, []

    def fill(fd: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real_write(fd, bytes(data)[:10])

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="No space"):
        await store.append("a", lines(3, 4))
    monkeypatch.setattr(os, "write", real_write)
    assert seqs(store.read()) == [1, 2]
    await store.append("a", lines(3, 4))
    assert [(entry.record.seq, entry.missed) for entry in store.read()] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    store.close()


BATCHES = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.tuples(st.integers(1, 5), st.binary(max_size=50)), max_size=6)), max_size=8
)


@given(BATCHES, st.integers(100, 1000))
def test_any_runs_in_any_batches_come_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[str, list[tuple[int, bytes]]]], max_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")

    async def store_them() -> list[tuple[str, LogRecord]]:
        wanted: list[tuple[str, LogRecord]] = []
        run_id, seq = "", 0
        for letter, steps in batches:
            store = LogStore(directory, max_bytes=max_bytes, files=1000)
            if letter != run_id and steps:
                run_id, seq = letter, 0
            batch = []
            for step, data in steps:
                seq += step
                batch.append(line(seq, data))
            await store.append(letter, batch)
            wanted.extend((letter, record) for record in batch)
            store.close()
        return wanted

    wanted = asyncio.run(store_them())
    assert [(entry.run_id, entry.record) for entry in LogStore(directory).read()] == wanted
