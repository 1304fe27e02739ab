from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.core.errors import ChecksumMismatch, HostError, NotFound
from volant.volume.saved import (
    SUMS,
    SavedStore,
    begin_saved,
    clean_saved,
    copy_saved,
    discard_saved,
    is_saved,
    publish_saved,
    remove_saved,
    verify_saved,
)


async def save(path: Path, **files: bytes) -> Path:
    unfinished = begin_saved(path)
    for name, content in files.items():
        (unfinished / name).write_bytes(content)
    await publish_saved(unfinished, path)
    return path


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


async def test_what_is_published_is_there_whole_and_verified(tmp_path: Path) -> None:
    path = await save(tmp_path / "one", memory=b"pages", state=b"devices")
    assert is_saved(path)
    await verify_saved(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert sorted(entry.name for entry in path.iterdir()) == ["memory", "state", SUMS]


async def test_what_is_not_published_is_not_there(tmp_path: Path) -> None:
    unfinished = begin_saved(tmp_path / "one")
    (unfinished / "memory").write_bytes(b"half")
    assert not is_saved(tmp_path / "one")
    with pytest.raises(NotFound):
        await verify_saved(tmp_path / "one")
    await clean_saved(tmp_path)
    assert not names_in(tmp_path)


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "sums"])
async def test_damage_is_found(tmp_path: Path, harm: str) -> None:
    path = await save(tmp_path / "one", memory=b"pages", state=b"devices")
    match harm:
        case "flip":
            (path / "memory").write_bytes(b"pagez")
        case "cut":
            os.truncate(path / "memory", 2)
        case "gone":
            (path / "state").unlink()
        case _:
            (path / SUMS).write_bytes(b"{")
    with pytest.raises(ChecksumMismatch):
        await verify_saved(path)


async def test_holes_cost_nothing_and_what_is_written_into_one_is_found(tmp_path: Path) -> None:
    unfinished = begin_saved(tmp_path / "one")
    with (unfinished / "disk").open("wb") as disk:
        disk.truncate(1 << 40)
        disk.seek(1 << 39)
        disk.write(b"far away")
    await publish_saved(unfinished, tmp_path / "one")
    await verify_saved(tmp_path / "one")
    with (tmp_path / "one" / "disk").open("r+b") as disk:
        disk.seek(1 << 38)
        disk.write(b"\0" * 4096)
    await verify_saved(tmp_path / "one")
    with (tmp_path / "one" / "disk").open("r+b") as disk:
        disk.seek(1 << 38)
        disk.write(b"x")
    with pytest.raises(ChecksumMismatch):
        await verify_saved(tmp_path / "one")


async def test_of_two_that_are_published_under_one_name_the_first_stays(tmp_path: Path) -> None:
    path = await save(tmp_path / "one", memory=b"first")
    await save(tmp_path / "one", memory=b"second")
    assert (path / "memory").read_bytes() == b"first"
    assert names_in(tmp_path) == ["one"]


async def test_removing_is_repeatable_and_leaves_nothing(tmp_path: Path) -> None:
    path = await save(tmp_path / "one", memory=b"pages")
    await remove_saved(path)
    await remove_saved(path)
    assert not names_in(tmp_path)


async def test_a_removal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    path = await save(tmp_path / "one", memory=b"pages")
    path.rename(tmp_path / ".old.one.1234")
    await clean_saved(tmp_path)
    assert not names_in(tmp_path)


async def test_a_copy_shares_bytes_and_leaves_out_what_is_not_wanted(tmp_path: Path) -> None:
    source = await save(tmp_path / "one", memory=b"pages", secret=b"s")
    await copy_saved(source, tmp_path / "two", leave_out={"secret"})
    await verify_saved(tmp_path / "two")
    assert not (tmp_path / "two" / "secret").exists()
    assert (tmp_path / "two" / "memory").stat().st_ino == (source / "memory").stat().st_ino
    await remove_saved(source)
    await verify_saved(tmp_path / "two")


async def test_copying_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        await copy_saved(tmp_path / "absent", tmp_path / "two")
    assert not names_in(tmp_path)


async def test_those_used_longest_ago_go_first_and_never_what_is_kept(tmp_path: Path) -> None:
    store = SavedStore(tmp_path / "store")
    await store.prepare()
    for number, name in enumerate(("oldest", "kept", "newest")):
        await save(store.path(name), memory=bytes(8192))
        store.mark_used(name, 1_000_000 + number)
    assert [entry.name for entry in await store.list_entries()] == ["kept", "newest", "oldest"]
    size = (await store.list_entries())[0].size_bytes
    assert [entry.name for entry in await store.evict(2 * size, {"kept"})] == ["oldest"]
    assert [entry.name for entry in await store.evict(0, {"kept"})] == ["newest"]
    assert store.find("kept") is not None and store.find("newest") is None


async def test_preparing_clears_what_was_half_made(tmp_path: Path) -> None:
    store = SavedStore(tmp_path / "store")
    await store.prepare()
    begin_saved(store.path("one"))
    await save(store.path("two"), memory=b"pages")
    await store.prepare()
    assert [entry.name for entry in store.root.iterdir()] == ["two"]


async def test_discarding_what_is_gone_does_nothing(tmp_path: Path) -> None:
    await discard_saved(tmp_path / "absent")
