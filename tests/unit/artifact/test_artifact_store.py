"""The artifact store: nothing but what its digest says is ever kept, and nothing is read twice for no reason."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.artifact import store as store_module
from volant.artifact.store import BATCH_BYTES, ArtifactStore
from volant.core.errors import ChecksumMismatch, DiskFull, HostError, InvalidInput, NotFound, TooLarge
from volant.core.ids import Digest

KERNEL = b"kernel" * 1000
STEPS = ("create", "write", "sync", "rename")
OTHER = Digest("sha256:" + "0" * 64)


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Crash(BaseException):
    """Ends a step as nothing that is caught would."""


@pytest.fixture
async def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path / "artifacts")
    await store.prepare()
    return store


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def path_of(root: Path, digest: Digest) -> Path:
    name = digest.removeprefix("sha256:")
    return root / "artifacts" / "sha256" / name[:2] / name


def read(store: ArtifactStore, digest: Digest) -> bytes:
    with open(store.open(digest), "rb") as opened:
        return opened.read()


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read from end to end."""
    found: list[Path] = []
    real = store_module._read_digest

    def read_digest(path: Path) -> object:
        found.append(path)
        return real(path)

    monkeypatch.setattr(store_module, "_read_digest", read_digest)
    return found


@given(chunks=st.lists(st.binary(max_size=100), max_size=20))
def test_what_is_put_is_what_is_opened(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    async def check() -> None:
        store = ArtifactStore(tmp_path_factory.mktemp("store"))
        await store.prepare()
        digest = digest_of(b"".join(chunks))
        size = await store.put(stream(*chunks), digest)
        assert (size, store.size(digest), read(store, digest)) == (len(b"".join(chunks)), size, b"".join(chunks))

    asyncio.run(check())


async def test_a_large_file_is_written_in_batches(store: ArtifactStore) -> None:
    chunks = [bytes([n]) * 65_536 for n in range(3 * BATCH_BYTES // 65_536 + 1)]
    digest = digest_of(b"".join(chunks))
    assert await store.put(stream(*chunks), digest) == sum(map(len, chunks))
    await store.verify(digest)
    assert read(store, digest) == b"".join(chunks)


async def test_files_are_for_every_reader_in_directories_for_root(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    path = path_of(tmp_path, digest)
    assert path.stat().st_mode & 0o7777 == 0o444
    for directory in (path.parent, path.parent.parent, tmp_path / "artifacts", tmp_path / "artifacts" / "arriving"):
        assert directory.stat().st_mode & 0o7777 == 0o700
    descriptor = store.open(digest)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


async def test_what_is_not_what_its_digest_says_is_not_kept(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=digest_of(KERNEL)):
        await store.put(stream(KERNEL), OTHER)
    assert files_in(tmp_path) == []
    assert not store.has(OTHER) and not store.has(digest_of(KERNEL))


async def test_what_is_too_large_is_not_kept(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="5999"):
        await store.put(stream(KERNEL), digest_of(KERNEL), len(KERNEL) - 1)
    assert files_in(tmp_path) == []
    assert await store.put(stream(KERNEL), digest_of(KERNEL), len(KERNEL)) == len(KERNEL)


@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_at_any_step_leaves_nothing_and_the_next_try_succeeds(tmp_path: Path, step: str) -> None:
    crashing = True

    def before(found: str) -> None:
        if found == step and crashing:
            raise Crash

    store = ArtifactStore(tmp_path / "artifacts", before=before)
    await store.prepare()
    with pytest.raises(Crash):
        await store.put(stream(KERNEL), digest_of(KERNEL))
    assert files_in(tmp_path) == []
    assert not store.has(digest_of(KERNEL))
    crashing = False
    await store.put(stream(KERNEL), digest_of(KERNEL))
    assert len(files_in(tmp_path)) == 1


async def test_what_a_killed_upload_left_goes_at_the_next_start(store: ArtifactStore, tmp_path: Path) -> None:
    await store.put(stream(KERNEL), digest_of(KERNEL))
    (tmp_path / "artifacts" / "arriving" / "half").write_bytes(KERNEL[:10])
    await ArtifactStore(tmp_path / "artifacts").prepare()
    assert files_in(tmp_path) == [path_of(tmp_path, digest_of(KERNEL))]


@pytest.mark.parametrize("error", [ConnectionResetError("the client went"), ValueError("no")])
async def test_what_the_stream_raises_is_passed_on(store: ArtifactStore, tmp_path: Path, error: Exception) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield KERNEL
        raise error

    with pytest.raises(type(error), match=str(error)):
        await store.put(breaking(), digest_of(KERNEL))
    assert files_in(tmp_path) == []


async def test_a_cancelled_upload_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(BATCH_BYTES)
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.put(endless(), OTHER))
    await begun.wait()
    assert len(files_in(tmp_path)) == 1
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", STEPS[1:])
async def test_a_full_disk_is_said_with_path_and_numbers(tmp_path: Path, step: str, number: int) -> None:
    def before(found: str) -> None:
        if found == step:
            raise OSError(number, os.strerror(number))

    store = ArtifactStore(tmp_path / "artifacts", before=before)
    await store.prepare()
    with pytest.raises(DiskFull, match=rf"{tmp_path}.*: \d+ MiB are free"):
        await store.put(stream(KERNEL), digest_of(KERNEL))
    assert files_in(tmp_path) == []


async def test_many_may_put_one_file_at_once(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(KERNEL)
    sizes = await asyncio.gather(*(store.put(stream(KERNEL), digest) for _ in range(10)))
    assert sizes == [len(KERNEL)] * 10
    assert files_in(tmp_path) == [path_of(tmp_path, digest)]
    await store.verify(digest)


async def test_putting_again_what_is_here_does_not_replace_it(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    before = path_of(tmp_path, digest).stat().st_ino
    assert await store.put(stream(KERNEL), digest) == len(KERNEL)
    assert path_of(tmp_path, digest).stat().st_ino == before


async def test_a_file_is_read_once_however_many_ask(store: ArtifactStore, tmp_path: Path, readings: list[Path]) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    fresh = ArtifactStore(tmp_path / "artifacts")
    await asyncio.gather(*(fresh.verify(digest) for _ in range(100)))
    assert readings == [path_of(tmp_path, digest)]
    await store.verify(digest)
    assert len(readings) == 1  # it had been checked while it came


async def test_a_damaged_file_is_named_and_made_good_by_sending_it_again(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    path = path_of(tmp_path, digest)
    path.chmod(0o644)
    path.write_bytes(b"x" + KERNEL[1:])
    for _ in range(2):
        with pytest.raises(ChecksumMismatch, match=digest):
            await store.verify(digest)
    assert store.size(digest) is None
    await store.put(stream(KERNEL), digest)
    await store.verify(digest)
    assert read(store, digest) == KERNEL


async def test_damage_that_nobody_noticed_is_made_good_too(store: ArtifactStore, tmp_path: Path) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    path_of(tmp_path, digest).chmod(0o644)
    path_of(tmp_path, digest).write_bytes(b"x" + KERNEL[1:])
    await store.put(stream(KERNEL), digest)
    assert read(store, digest) == KERNEL


async def test_what_is_not_here(store: ArtifactStore) -> None:
    assert not store.has(OTHER)
    assert store.size(OTHER) is None
    await store.remove(OTHER)
    with pytest.raises(NotFound, match=OTHER):
        store.open(OTHER)
    with pytest.raises(NotFound, match=OTHER):
        await store.verify(OTHER)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "A" * 64])
async def test_only_a_digest_is_a_name(store: ArtifactStore, digest: str) -> None:
    for ask in (store.has, store.size, store.open):
        with pytest.raises(InvalidInput):
            ask(Digest(digest))
    for do in (store.verify, store.remove, lambda name: store.put(stream(), name)):
        with pytest.raises(InvalidInput):
            await do(Digest(digest))


async def test_who_has_a_file_open_keeps_it_when_it_is_removed(store: ArtifactStore) -> None:
    digest = digest_of(KERNEL)
    await store.put(stream(KERNEL), digest)
    descriptor = store.open(digest)
    await store.remove(digest)
    assert not store.has(digest)
    assert os.read(descriptor, 2 * len(KERNEL)) == KERNEL
    os.close(descriptor)


async def test_a_sweep_spares_what_is_kept_and_what_just_came(store: ArtifactStore, tmp_path: Path) -> None:
    kept, old = digest_of(b"kept"), digest_of(b"old")
    await store.put(stream(b"kept"), kept)
    await store.put(stream(b"old"), old)
    assert await store.list() == {kept: 4, old: 3}
    came = path_of(tmp_path, old).stat().st_ctime
    assert await store.sweep({kept}, unused_since=came) == set()
    assert await store.sweep({kept}, unused_since=came + 1) == {old}
    assert await store.list() == {kept: 4}


async def test_a_place_that_cannot_be_written_is_the_hosts_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="Not a directory"):
        await ArtifactStore(tmp_path / "file" / "artifacts").prepare()


async def test_a_path_may_be_long(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.joinpath(*("d" * 200 for _ in range(10))))
    await store.prepare()
    await store.put(stream(KERNEL), digest_of(KERNEL))
    assert read(store, digest_of(KERNEL)) == KERNEL


def test_steps_are_told_in_order(tmp_path: Path) -> None:
    steps: list[str] = []
    record: Callable[[str], None] = steps.append

    async def put() -> None:
        store = ArtifactStore(tmp_path, before=record)
        await store.prepare()
        await store.put(stream(KERNEL), digest_of(KERNEL))

    asyncio.run(put())
    assert tuple(steps) == STEPS


async def test_what_another_holds_is_not_removed(store: ArtifactStore, tmp_path: Path) -> None:
    builder = ArtifactStore(tmp_path / "artifacts", owner="image-1")
    one, two = digest_of(b"one"), digest_of(b"two")
    for content, digest in ((b"one", one), (b"two", two)):
        await store.put(stream(content), digest)
    await builder.hold(one)

    await store.remove(one)
    assert store.has(one), "the builder holds it"
    assert await store.sweep(set(), float("inf")) == {two}
    await builder.release(one)
    assert await store.held() == {}
    assert await store.sweep(set(), float("inf")) == {one}


async def test_a_sweep_holds_what_it_keeps_and_no_more(store: ArtifactStore, tmp_path: Path) -> None:
    one, two = digest_of(b"one"), digest_of(b"two")
    await store.hold(one)
    await store.sweep({two}, 0.0)
    assert await ArtifactStore(tmp_path / "artifacts", owner="another").held() == {two: {"volantd"}}


async def test_a_file_that_was_made_here_is_taken_in_by_moving_it(store: ArtifactStore, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"content")
    inode = made.stat().st_ino
    await store.take(made, digest_of(b"content"))
    assert read(store, digest_of(b"content")) == b"content"
    assert path_of(tmp_path, digest_of(b"content")).stat().st_ino == inode
    assert not made.exists()
    assert files_in(tmp_path / "artifacts" / "arriving") == []


async def test_a_file_of_another_file_system_is_copied(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"content")

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "rename", refuse)
    await store.take(made, digest_of(b"content"))
    assert read(store, digest_of(b"content")) == b"content"
    made.write_bytes(b"changed")
    with pytest.raises(ChecksumMismatch):
        await store.take(made, digest_of(b"other"))
    assert not store.has(digest_of(b"other"))


async def test_an_upload_under_way_survives_that_another_program_begins(store: ArtifactStore, tmp_path: Path) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"con"
        began.set()
        await go_on.wait()
        yield b"tent"

    async with asyncio.TaskGroup() as group:
        group.create_task(store.put(slow(), digest_of(b"content")))
        await began.wait()
        await ArtifactStore(tmp_path / "artifacts").prepare()
        go_on.set()
    assert read(store, digest_of(b"content")) == b"content"
