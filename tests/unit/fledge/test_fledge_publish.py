from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from volant.core.errors import ChecksumMismatch, HostError
from volant.fledge.content import CHUNK, FileRecord, copy_plain, copy_recorded, record_bytes, record_file
from volant.fledge.kept.publish import publish


def make_files(directory: Path, **contents: bytes) -> dict[str, tuple[Path, FileRecord]]:
    directory.mkdir(exist_ok=True)
    files = {}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
        files[name] = (directory / name, record_bytes(content))
    return files


def put(output: Path, cache: Path, **contents: bytes) -> None:
    publish(output, make_files(cache, **contents), last="manifest", notes=cache.parent / "notes")


def read_all(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_all_files_arrive_and_leftovers_of_a_killed_build_go(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    (output / ".fledge-killed").mkdir(parents=True)
    (output / "others-file").write_bytes(b"stays")

    put(output, tmp_path / "cache", vmlinux=b"kernel", manifest=b"m", record=b"r")

    assert read_all(output) == {"vmlinux": b"kernel", "manifest": b"m", "record": b"r", "others-file": b"stays"}


def test_a_damaged_file_leaves_the_old_build_as_it_was(tmp_path: Path) -> None:
    output = tmp_path / "out"
    put(output, tmp_path / "old", vmlinux=b"old", manifest=b"old")
    files = make_files(tmp_path / "new", vmlinux=b"new", manifest=b"new")
    (tmp_path / "new" / "vmlinux").write_bytes(b"bad")

    with pytest.raises(ChecksumMismatch) as caught:
        publish(output, files, last="manifest", notes=tmp_path / "notes")

    assert caught.value.hint is not None
    assert "--no-cache" in caught.value.hint
    assert read_all(output) == {"vmlinux": b"old", "manifest": b"old"}


def test_a_build_that_ends_between_two_renames_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    put(output, tmp_path / "old", a=b"old", b=b"old", manifest=b"old")
    replace = Path.replace

    def replace_but_b(self: Path, target: Path) -> Path:
        if target.name == "b":
            raise OSError(errno.EIO, "killed here")
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(HostError, match="killed here"):
        patch.setattr(Path, "replace", replace_but_b)
        put(output, tmp_path / "new", a=b"new", b=b"new", manifest=b"new")

    assert read_all(output) == {"a": b"new", "b": b"old"}
    put(output, tmp_path / "new", a=b"new", b=b"new", manifest=b"new")
    assert read_all(output) == {"a": b"new", "b": b"new", "manifest": b"new"}


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    output = tmp_path / "out"
    put(output, tmp_path / "cache", rootfs=b"root", manifest=b"m")
    (output / "manifest.minisig").write_bytes(b"signature")
    before = {path.name: path.stat().st_ino for path in output.iterdir()}
    put(output, tmp_path / "cache", rootfs=b"root", manifest=b"m")
    assert {path.name: path.stat().st_ino for path in output.iterdir()} == before

    (output / "rootfs").write_bytes(b"mine")
    put(output, tmp_path / "cache", rootfs=b"root", manifest=b"m")
    assert read_all(output) == {"rootfs": b"root", "manifest": b"m"}, "and the signature was of another build"
    (output / "rootfs").unlink()
    put(output, tmp_path / "cache", rootfs=b"root", manifest=b"m")
    assert read_all(output)["rootfs"] == b"root"


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    put(tmp_path / "out", tmp_path / "cache", manifest=b"m")
    for note in (tmp_path / "notes").iterdir():
        note.write_bytes(b"{")
    put(tmp_path / "out", tmp_path / "cache", manifest=b"m")
    assert read_all(tmp_path / "out") == {"manifest": b"m"}


def test_an_output_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HostError, match="cannot be made"):
        put(tmp_path / "file" / "out", tmp_path / "cache", manifest=b"")


@pytest.mark.parametrize("content", [b"", b"x", bytes(CHUNK), bytes(3 * CHUNK + 1), b"x" + bytes(2 * CHUNK), bytes(CHUNK) + b"x"])
def test_a_copy_has_every_byte_and_its_holes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)

    record = copy_recorded(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == content
    assert record == record_file(tmp_path / "a") == record_bytes(content)
    assert (tmp_path / "b").stat().st_blocks <= (tmp_path / "a").stat().st_blocks


@pytest.mark.parametrize("place", ["here", "/dev/shm"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(3 * CHUNK + 1), b"x" + bytes(2 * CHUNK) + b"y"])
def test_a_plain_copy_has_every_byte_also_on_another_file_system(tmp_path: Path, place: str, content: bytes) -> None:
    with (tmp_path / "a").open("wb") as stream:
        for at in range(0, len(content), CHUNK):
            piece = content[at : at + CHUNK]
            stream.seek(at)
            if piece.strip(b"\0"):
                stream.write(piece)
        stream.truncate(len(content))
    with tempfile.TemporaryDirectory(dir=tmp_path if place == "here" else place) as directory:
        copy_plain(tmp_path / "a", Path(directory) / "b")
        assert (Path(directory) / "b").read_bytes() == content
        assert (Path(directory) / "b").stat().st_blocks * 512 <= max(len(content.strip(b"\0")), 2 * CHUNK)


def test_what_was_just_checked_is_published_to_another_file_system_too(tmp_path: Path) -> None:
    files = make_files(tmp_path / "cache", rootfs=b"root", manifest=b"m")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        checked = {record.sha256 for _, record in files.values()}
        publish(Path(directory) / "out", files, last="manifest", notes=tmp_path / "notes", checked=checked)
        assert read_all(Path(directory) / "out") == {"rootfs": b"root", "manifest": b"m"}
