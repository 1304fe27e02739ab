from __future__ import annotations

import io
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.fledge.initramfs.cpio import FILE_MAX_BYTES, PATH_MAX_BYTES, CpioWriter
from volant.fledge.initramfs.cpio import read_archive as read_entries

Entry = tuple[str, dict[str, int], bytes]
_FIELDS = (
    "ino",
    "mode",
    "uid",
    "gid",
    "nlink",
    "mtime",
    "size",
    "devmajor",
    "devminor",
    "rdevmajor",
    "rdevminor",
    "namesize",
    "check",
)


def read_archive(archive: bytes) -> list[Entry]:
    """The kernel's rules: magic, thirteen fields of eight hexadecimal digits, name and content each padded to four bytes."""
    entries: list[Entry] = []
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        digits = archive[position + 6 : position + 110]
        head = {name: int(digits[8 * i : 8 * i + 8], 16) for i, name in enumerate(_FIELDS)}
        name = archive[position + 110 : position + 110 + head["namesize"]]
        assert name.endswith(b"\0")
        begin = position + 110 + head["namesize"]
        begin += -begin % 4
        content = archive[begin : begin + head["size"]]
        assert len(content) == head["size"]
        position = begin + head["size"]
        position += -position % 4
        if name == b"TRAILER!!!\0":
            assert not archive[position:].strip(b"\0")
            return entries
        entries.append((name[:-1].decode(), head, content))


def write_archive(files: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    for name, content in files:
        writer.add_file(name, content)
    writer.finish()
    return stream.getvalue()


@given(st.lists(st.tuples(st.from_regex(r"[a-z0-9_./-]{0,40}[a-z0-9]", fullmatch=True), st.binary(max_size=70)), max_size=8))
def test_what_is_written_is_read_back_in_order(files: list[tuple[str, bytes]]) -> None:
    archive = write_archive(files)

    assert [(name, content) for name, _, content in read_archive(archive)] == [
        (name.strip("/"), content) for name, content in files
    ]
    assert len(archive) % 512 == 0


def test_entries_belong_to_root_at_time_zero_with_inodes_counted_from_one() -> None:
    heads = [head for _, head, _ in read_archive(write_archive([("a", b"1"), ("b", b"22")]))]

    assert [(h["ino"], h["uid"], h["gid"], h["mtime"], h["nlink"]) for h in heads] == [(1, 0, 0, 0, 1), (2, 0, 0, 0, 1)]


def test_directories_links_and_devices_have_their_kind() -> None:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    writer.add_directory("/dev/")
    writer.add_character_device("dev/console", 5, 1)
    writer.add_symlink("sh", "bin/busybox")
    writer.add_file("init", b"\x7fELF", 0o755)
    writer.finish()

    found = {
        name: (head["mode"], head["rdevmajor"], head["rdevminor"], content)
        for name, head, content in read_archive(stream.getvalue())
    }

    assert found == {
        "dev": (stat.S_IFDIR | 0o755, 0, 0, b""),
        "dev/console": (stat.S_IFCHR | 0o600, 5, 1, b""),
        "sh": (stat.S_IFLNK | 0o777, 0, 0, b"bin/busybox"),
        "init": (stat.S_IFREG | 0o755, 0, 0, b"\x7fELF"),
    }


def test_what_reads_boot_archives_agrees_with_the_rules() -> None:
    archive = write_archive([("init", b"\x7fELF"), ("etc/kestrel/modules", b"/lib/a.ko\n"), ("empty", b"")])

    assert [(entry.path.decode(), entry.mode, entry.content) for entry in read_entries(archive)] == [
        (name, head["mode"], content) for name, head, content in read_archive(archive)
    ]


@given(st.binary(max_size=300), st.integers(0, 600))
def test_any_bytes_are_an_archive_or_refused(junk: bytes, cut: int) -> None:
    whole = write_archive([("init", b"12345"), ("a/b", b"")])
    for content in (junk, whole[:cut] + junk, b"070701" + junk):
        try:
            list(read_entries(content))
        except InvalidInput as error:
            assert error.message.startswith("what should be an initramfs")


def test_the_names_of_one_file_share_an_inode_and_the_last_has_the_content() -> None:
    stream = io.BytesIO()
    writer = CpioWriter(stream, time_s=1704067200)
    writer.add_stream([b"a", b"b/c", b"z"], 0o4711, [b"con", b"tent"], 7, owner=(70000, 4294967294))
    writer.add_special([b"p", b"q"], stat.S_IFIFO | 0o622, owner=(1, 2))
    writer.add_special([b"disk"], stat.S_IFBLK | 0o660, owner=(0, 6), device=(259, 1048575))
    writer.add_file("alone", b"")
    writer.finish()

    rows = [
        (name, h["ino"], h["mode"], h["nlink"], (h["uid"], h["gid"]), (h["rdevmajor"], h["rdevminor"]), h["mtime"], content)
        for name, h, content in read_archive(stream.getvalue())
    ]

    file, fifo, at = stat.S_IFREG | 0o4711, stat.S_IFIFO | 0o622, 1704067200
    assert rows == [
        ("a", 1, file, 3, (70000, 4294967294), (0, 0), at, b""),
        ("b/c", 1, file, 3, (70000, 4294967294), (0, 0), at, b""),
        ("z", 1, file, 3, (70000, 4294967294), (0, 0), at, b"content"),
        ("p", 2, fifo, 2, (1, 2), (0, 0), at, b""),
        ("q", 2, fifo, 2, (1, 2), (0, 0), at, b""),
        ("disk", 3, stat.S_IFBLK | 0o660, 1, (0, 6), (259, 1048575), at, b""),
        ("alone", 4, stat.S_IFREG | 0o644, 1, (0, 0), (0, 0), at, b""),
    ]


def test_what_the_kernel_would_pass_over_is_refused() -> None:
    writer = CpioWriter(io.BytesIO())
    writer.add_file(b"n" * PATH_MAX_BYTES, b"")
    with pytest.raises(InvalidInput, match="4096 bytes long"):
        writer.add_file(b"n" * (PATH_MAX_BYTES + 1), b"")
    with pytest.raises(InvalidInput, match="ends an initramfs"):
        writer.add_file("TRAILER!!!", b"")
    with pytest.raises(InvalidInput, match="below 4 GiB"):
        writer.add_stream([b"huge"], 0o644, [], FILE_MAX_BYTES + 1, owner=(0, 0))
    with pytest.raises(InvalidInput, match="does not fit"):
        CpioWriter(io.BytesIO(), time_s=1 << 32)


@pytest.mark.parametrize("chunks", [[b"12"], [b"1234"], [b"12", b"34"], []])
def test_a_file_that_changes_while_it_is_read_is_said_to(chunks: list[bytes]) -> None:
    with pytest.raises(InvalidInput, match="log changed while it was read"):
        CpioWriter(io.BytesIO()).add_stream([b"log"], 0o644, chunks, 3, owner=(0, 0))
