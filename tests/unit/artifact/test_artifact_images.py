"""The list of what was built: held while it is listed, found by what people call it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.artifact.images import ImageFile, ImageRecord, ImageShelf, choose_superseded
from volant.artifact.store import ArtifactStore
from volant.core.errors import InvalidInput, NotFound
from volant.core.ids import Digest


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def make_image(name: str, version: str = "1", built_at: int = 0, rootfs: bytes = b"root") -> ImageRecord:
    manifest = digest_of(f"{name} {version} {built_at}".encode())
    files = {"manifest.json": ImageFile(manifest, 10), "rootfs.erofs": ImageFile(digest_of(rootfs), len(rootfs))}
    return ImageRecord(name=name, version=version, digest=manifest, source="oci:web", built_at=built_at, files=files)


@pytest.fixture
async def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    await store.prepare()
    return store


@pytest.fixture
def shelf(tmp_path: Path, store: ArtifactStore) -> ImageShelf:
    return ImageShelf(tmp_path, store)


async def test_images_are_found_by_name_version_and_digits(shelf: ImageShelf) -> None:
    old, new, other = make_image("web", "1", 1), make_image("web", "2", 2), make_image("db", "1", 3)
    for image in (old, new, other):
        await shelf.add(image)
    assert await shelf.list_images() == [other, new, old]
    assert await shelf.find("web") == new
    assert await shelf.find("web:1") == old
    assert await shelf.find(old.digest) == old
    assert await shelf.find(old.digest[7:20]) == old
    for text in ("cache", "web:3", old.digest[7:10], "../web"):
        with pytest.raises(NotFound):
            await shelf.find(text)


async def test_digits_that_fit_several_are_refused(shelf: ImageShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1", "2"):
        image = make_image("web", version)
        await shelf.add(
            ImageRecord(
                **{
                    **{f: getattr(image, f) for f in image.__struct_fields__},
                    "digest": Digest("sha256:" + version.rjust(64, "a")),
                }
            )
        )
    with pytest.raises(InvalidInput, match="2 images begin with aaaaaaaa"):
        await shelf.find("aaaaaaaa")


async def test_files_stay_for_as_long_as_an_image_is_listed(shelf: ImageShelf, store: ArtifactStore) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"root"

    root = digest_of(b"root")
    one, two = make_image("web", "1"), make_image("web", "2")
    await store.put(stream(), root)
    await shelf.add(one)
    await shelf.add(two)
    for image in (one, two):
        await store.sweep(set(), float("inf"))
        assert store.has(root)
        await shelf.remove(image)
    assert await store.sweep(set(), float("inf")) == {root}
    assert await shelf.list_images() == []


async def test_a_record_that_cannot_be_read_is_passed_over(shelf: ImageShelf, tmp_path: Path) -> None:
    await shelf.add(make_image("web"))
    (tmp_path / "images" / f"{'0' * 64}.json").write_text("{")
    assert [image.name for image in await shelf.list_images()] == ["web"]


def test_newer_builds_supersede_older_ones() -> None:
    old, new, other = make_image("web", "1", 1), make_image("web", "1", 2), make_image("web", "2", 1)
    assert choose_superseded([old, new, other]) == [old]
    assert {image.built_at for image in choose_superseded([old, new, other], unused_since=2.0)} == {1}
    assert len(choose_superseded([old, new, other], unused_since=2.0)) == 2
