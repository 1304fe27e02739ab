from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from volant.core.errors import HostError
from volant.fledge.cache import Cache, Workspace, default_cache_directory, derive_key

pytestmark = pytest.mark.spawns  # workspaces are removed by rm


@pytest.fixture
async def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    return cache


class Filler:
    """Writes a file and counts how often it was asked to."""

    def __init__(self, text: str = "made") -> None:
        self.text = text
        self.calls = 0

    async def __call__(self, target: Path, workspace: Workspace) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        (target / "file").write_text(self.text)
        (workspace.path / "scratch").mkdir()


async def read(cache: Cache, fill: Filler, key: str = "key") -> str:
    async with cache.entry("kind", key, fill) as path:
        return (path / "file").read_text()


async def test_an_entry_is_made_once_and_leaves_no_scratch(cache: Cache) -> None:
    fill = Filler()

    texts = await asyncio.gather(*(read(cache, fill) for _ in range(5)))
    again = await read(Cache(cache.root), Filler("other"))

    assert [*texts, again] == ["made"] * 6
    assert fill.calls == 1
    assert not list((cache.root / "tmp").iterdir())


async def test_without_reuse_an_entry_is_replaced_once(cache: Cache) -> None:
    await read(cache, Filler("old"))
    fresh, fill = Cache(cache.root, reuse=False), Filler("new")

    assert [await read(fresh, fill), await read(fresh, fill), await read(cache, Filler())] == ["new"] * 3
    assert fill.calls == 1


async def test_an_entry_is_not_replaced_while_it_is_read(cache: Cache) -> None:
    fresh, fill = Cache(cache.root, reuse=False), Filler("new")
    async with cache.entry("kind", "key", Filler("old")) as path:
        replacing = asyncio.create_task(read(fresh, fill))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (path / "file").read_text() == "old"
        assert fill.calls == 0
    assert await replacing == "new"


async def test_a_failed_or_cancelled_filling_leaves_nothing(cache: Cache) -> None:
    started = asyncio.Event()

    async def fail(target: Path, workspace: Workspace) -> None:
        (target / "half").touch()
        raise HostError("no luck")

    async def hang(target: Path, workspace: Workspace) -> None:
        (target / "half").touch()
        started.set()
        await asyncio.Event().wait()

    with pytest.raises(HostError, match="no luck"):
        async with cache.entry("kind", "key", fail):
            pass
    task = asyncio.create_task(cache.entry("kind", "key", hang).__aenter__())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not list((cache.root / "tmp").iterdir())
    assert await read(cache, Filler()) == "made"


KILLED = """
import asyncio, sys
from pathlib import Path
from volant.fledge.cache import Cache
from volant.run import spawn

async def fill(target, workspace):
    (target / "half").touch()
    if sys.argv[2] == "child":
        spawn(["sleep", "60"], pass_fds=[workspace.lock_fd])
    print("filling", flush=True)
    await asyncio.sleep(60)

async def main():
    cache = Cache(Path(sys.argv[1]))
    await cache.open()
    async with cache.entry("kind", "key", fill):
        pass

asyncio.run(main())
"""


def kill_while_filling(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-c", KILLED, str(root), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filling\n"
        process.send_signal(signal.SIGKILL)


async def test_what_a_killed_build_left_is_swept_and_not_tripped_over(cache: Cache) -> None:
    await asyncio.to_thread(kill_while_filling, cache.root, "alone")
    assert len(list((cache.root / "tmp").iterdir())) == 1

    await cache.open()

    assert not list((cache.root / "tmp").iterdir())
    assert await read(cache, Filler()) == "made"


async def test_a_workspace_in_use_is_left_alone(cache: Cache) -> None:
    async with cache.workspace() as workspace:
        await Cache(cache.root).open()
        assert workspace.path.is_dir()
    assert not workspace.path.exists()


async def test_only_its_owner_may_enter(cache: Cache) -> None:
    assert cache.root.stat().st_mode & 0o777 == 0o700


async def test_a_cache_that_cannot_be_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HostError, match="cannot be used") as caught:
        await Cache(tmp_path / "file").open()

    assert caught.value.hint is not None
    assert "--cache-dir" in caught.value.hint


def test_the_places_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEDGE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache_directory() == Path("/a")
    monkeypatch.delenv("FLEDGE_CACHE")
    assert default_cache_directory() == Path("/b/fledge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_cache_directory() == Path("/var/cache/fledge")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/a")
    assert default_cache_directory() == Path("/home/a/.cache/fledge")


def test_keys_depend_on_every_part_and_not_on_the_order_of_names() -> None:
    assert derive_key("a", {"x": 1, "y": 2}) == derive_key("a", {"y": 2, "x": 1})
    assert len({derive_key("a", "b"), derive_key("ab"), derive_key("a", "c"), derive_key(["a", "b"])}) == 4
