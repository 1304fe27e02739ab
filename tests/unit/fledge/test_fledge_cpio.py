from __future__ import annotations

import io
import stat

from hypothesis import given
from hypothesis import strategies as st

from volant.fledge.cpio import CpioWriter

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
