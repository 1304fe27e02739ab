"""Unpacking what a guest made: nothing outside, no link followed, no device made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from volant.client.extract import Extracted, Extractor
from volant.client.pack import Packer
from volant.core.errors import HostError, InvalidInput
from volant.core.tar import END, Member, encode_member, padding


def archive(*members: tuple[Member, bytes]) -> bytes:
    return b"".join(encode_member(m) + c + padding(len(c)) for m, c in members) + END


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[Member, bytes]:
    return Member(name=name, type="file", size=len(content), mode=mode), content


def directory(name: str, mode: int = 0o755) -> tuple[Member, bytes]:
    return Member(name=name, type="directory", mode=mode), b""


def link(name: str, target: str) -> tuple[Member, bytes]:
    return Member(name=name, type="symlink", target=target), b""


def unpack(content: bytes, into: Path, rename: str | None = None) -> Extracted:
    with Extractor(str(into), rename=rename) as extractor:
        for at in range(0, len(content), 300):
            extractor.feed(content[at : at + 300])
        return extractor.finish()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "into"
    made.mkdir()
    return made


def test_a_link_in_the_archive_is_never_gone_through(into: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(HostError, match="way/in was not written"):
        unpack(archive(link("way", str(outside)), file("way/in")), into)
    assert list(outside.iterdir()) == []
    with pytest.raises(HostError, match="way was not written"):
        unpack(archive(directory("way"), file("way/in")), into)
    assert (into / "way").is_symlink()


def test_a_link_that_is_there_is_replaced_and_not_written_through(into: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (into / "file").symlink_to(precious)
    unpack(archive(file("file", b"theirs")), into)
    assert precious.read_text() == "mine"
    assert (into / "file").read_text() == "theirs"


def test_set_uid_bits_of_a_guest_do_not_come_over(into: Path) -> None:
    unpack(archive(directory("d", 0o3777), file("d/su", mode=0o6755)), into)
    assert stat.S_IMODE((into / "d" / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((into / "d").stat().st_mode) == 0o777


def test_a_directory_without_write_permission_is_filled_first(into: Path) -> None:
    unpack(archive(directory("d", 0o555), directory("d/e", 0o500), file("d/e/f"), file("d/g")), into)
    assert stat.S_IMODE((into / "d").stat().st_mode) == 0o555
    assert (into / "d" / "e" / "f").read_bytes() == b"x"


@pytest.mark.parametrize(("rename", "found"), [(None, "site/a"), ("other", "other/a"), ("", "a")])
def test_the_first_part_of_names_becomes_what_was_asked_for(into: Path, rename: str | None, found: str) -> None:
    assert unpack(archive(directory("site"), file("site/a")), into, rename) == Extracted(2, 1)
    assert (into / found).is_file()


@pytest.mark.parametrize("cut", [600, 1100, 1536])
def test_an_archive_without_its_end_is_not_taken_for_whole(into: Path, cut: int) -> None:
    content = archive(file("a", bytes(600)), file("b"))
    with pytest.raises(InvalidInput):
        unpack(content[:cut], into)
    assert [path.name for path in into.iterdir() if path.name.startswith(".volar")] == []


def test_a_tree_deeper_than_anybody_needs_is_refused(into: Path) -> None:
    deep = [directory("/".join(["d"] * depth)) for depth in range(1, 300)]
    with pytest.raises(InvalidInput, match="deeper"):
        unpack(archive(*deep), into)


def test_packing_passes_over_what_cannot_be_copied_and_keeps_links(into: Path, tmp_path: Path) -> None:
    import socket

    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "socket"))
    packer = Packer(str(tree), ".")
    unpack(b"".join(packer), into)
    assert packer.skipped == 1
    assert [path.name for path in into.iterdir()] == ["link"]
    assert (into / "link").readlink() == Path("nowhere")
    with pytest.raises(InvalidInput, match="socket or a device"):
        b"".join(Packer(os.devnull, "null"))
