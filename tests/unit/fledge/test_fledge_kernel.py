from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import volant.fledge.debian.apt
import volant.fledge.kernel.package
from volant.core.errors import ChecksumMismatch, CommandFailed, HostError, InvalidInput, NotFound
from volant.fledge.cache import Cache
from volant.fledge.debian.apt import Package
from volant.fledge.kernel.package import label_kernel, open_kernel
from volant.fledge.progress import Progress
from volant.run import Completed

pytestmark = pytest.mark.spawns  # workspaces are removed by rm

QUIET = Progress(sys.stderr, quiet=True)


class Archive:
    """Answers for apt: what it lists, and what downloading gives."""

    def __init__(self) -> None:
        self.listed = self.offered = self.content = b"package 1"
        self.updates = self.downloads = 0
        self.known = True

    async def run(self, command: list[Any], *, cwd: Path | None = None, **_: Any) -> Completed:
        words = [str(word) for word in command]
        if "show" in words:
            shown = b"Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-9-cloud-amd64 (= 6.1-1)\n"
            return Completed(0, shown, b"") if self.known else Completed(100, b"", b"E: No packages found")
        if "update" in words:
            self.updates += 1
            self.known, self.listed = True, self.offered
            return Completed(0, b"", b"")
        if "--print-uris" in words:
            file = "linux-image-6.1.0-9-cloud-amd64_1%3a6.1-1_amd64.deb"
            return Completed(0, f"'http://m/x.deb' {file} 9 SHA256:{hashlib.sha256(self.listed).hexdigest()}\n".encode(), b"")
        assert "linux-image-6.1.0-9-cloud-amd64=1:6.1-1" in words
        self.downloads += 1
        if self.listed != self.offered:
            raise CommandFailed(tuple(words), 100, "E: 404  Not Found")
        assert cwd is not None
        (cwd / "x.deb").write_bytes(self.content)
        return Completed(0, b"", b"")


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Archive:
    archive = Archive()
    monkeypatch.setattr(volant.fledge.debian.apt, "run", archive.run)
    monkeypatch.setattr(volant.fledge.kernel.package, "DEFAULT_PACKAGES", {"x86_64": "linux-image-cloud-amd64"})
    monkeypatch.setattr(volant.fledge.debian.apt, "_LISTS", (tmp_path / "lists",))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return archive


@pytest.fixture
async def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    return cache


async def read(cache: Cache) -> tuple[Package, bytes]:
    async with open_kernel(cache, "", None, QUIET) as (kernel, deb):
        return kernel, deb.read_bytes()


async def test_the_package_that_the_cloud_kernel_depends_on_is_downloaded_once(archive: Archive, cache: Cache) -> None:
    kernel, content = await read(cache)
    again, _ = await read(cache)

    assert (kernel.name, kernel.version) == ("linux-image-6.1.0-9-cloud-amd64", "1:6.1-1")
    assert kernel.sha256 == hashlib.sha256(content).hexdigest()
    assert again == kernel
    assert (archive.downloads, archive.updates) == (1, 0)


async def test_missing_lists_are_read_first(archive: Archive, cache: Cache) -> None:
    archive.known = False

    assert (await read(cache))[1] == b"package 1"
    assert archive.updates == 1


async def test_a_package_that_the_archive_no_longer_has_is_looked_for_in_new_lists(
    archive: Archive, cache: Cache, tmp_path: Path
) -> None:
    archive.offered = archive.content = b"package 2"

    def update_touches_the_lists(run: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(command: list[Any], **keywords: Any) -> Any:
            if "update" in command:
                (tmp_path / "lists").mkdir()
                (tmp_path / "lists/Packages").touch()
            return await run(command, **keywords)

        return wrapped

    volant.fledge.debian.apt.run = update_touches_the_lists(archive.run)  # type: ignore[assignment]  # undone by the fixture

    assert (await read(cache))[1] == b"package 2"
    assert archive.updates == 1


async def test_a_download_that_stays_impossible_is_an_error(archive: Archive, cache: Cache) -> None:
    archive.listed, archive.offered = b"listed", b"other"

    async def update(command: list[Any], **keywords: Any) -> Completed:
        return Completed(0, b"", b"") if "update" in command else await archive.run(command, **keywords)

    volant.fledge.debian.apt.run = update  # type: ignore[assignment]  # undone by the fixture

    with pytest.raises(HostError, match=r"cannot be downloaded.*404"):
        await read(cache)


async def test_a_package_with_another_digest_is_refused(archive: Archive, cache: Cache) -> None:
    archive.content = b"tampered"

    with pytest.raises(ChecksumMismatch, match="the archive's list says"):
        await read(cache)

    assert not list((cache.root / "tmp").iterdir())


async def test_an_unknown_package_is_an_error(archive: Archive, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def know_nothing(command: list[Any], **_: Any) -> Completed:
        return Completed(0, b"", b"") if "update" in command else Completed(100, b"", b"")

    monkeypatch.setattr(volant.fledge.debian.apt, "run", know_nothing)

    with pytest.raises(NotFound, match="apt knows no package linux-image-cloud-amd64"):
        await read(cache)


async def test_a_package_that_is_no_kernel_is_bad_input(archive: Archive, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def show(command: list[Any], **_: Any) -> Completed:
        return Completed(0, b"Package: nginx\nDepends: libc6\n", b"")

    monkeypatch.setattr(volant.fledge.debian.apt, "run", show)

    with pytest.raises(InvalidInput, match="nginx is no kernel package"):
        async with open_kernel(cache, "nginx", None, QUIET):
            pass


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("linux-image-6.1.0-56-cloud-amd64", "debian 6.1-1 cloud"),
        ("linux-image-6.1.0-56-amd64", "debian 6.1-1"),
        ("linux-image-6.12.12+bpo-rt-amd64-unsigned", "debian 6.1-1 rt"),
        ("linux-image-of-mine", "linux-image-of-mine 6.1-1"),
    ],
)
def test_a_kernel_is_told_by_its_label(name: str, label: str) -> None:
    assert label_kernel(Package(name=name, version="6.1-1", file="x.deb", sha256="0" * 64)) == label
