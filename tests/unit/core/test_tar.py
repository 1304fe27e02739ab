"""Tar archives a piece at a time: against Python's own, and against nonsense."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.tar import END, MAX_PAX_BYTES, Member, TarDecoder, encode_incidents, encode_member, padding, read_incidents

NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=6,
).map("/".join)
MEMBERS = st.builds(
    Member,
    name=NAMES,
    type=st.sampled_from(["file", "directory", "fifo"]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    mtime_ns=st.integers(-(10**18), 10**19),
)


def pack(members: list[tuple[Member, bytes]]) -> bytes:
    return b"".join(encode_member(m) + c + padding(len(c)) for m, c in members) + END


def unpack(content: bytes, step: int = 1000) -> list[tuple[Member, bytes]]:
    decoder, found = TarDecoder(), []
    for at in range(0, len(content), step):
        for item in decoder.feed(content[at : at + step]):
            if isinstance(item, Member):
                found.append((item, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + item)
    decoder.finish()
    return found


@given(MEMBERS, st.binary(max_size=1500), st.integers(1, 3000))
def test_what_is_packed_comes_out_as_it_was_and_python_reads_it(member: Member, content: bytes, step: int) -> None:
    content = content if member.type == "file" else b""
    member = Member(**{**{f: getattr(member, f) for f in member.__struct_fields__}, "size": len(content)})
    packed = pack([(member, content)])
    assert unpack(packed, step) == [(member, content)]
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        (info,) = opened.getmembers()
        assert (info.name, info.mode, info.uid, info.gid) == (member.name, member.mode, member.uid, member.gid)
        assert info.size == len(content)


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_what_python_packs_is_read(format_: int) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as writing:
        info = tarfile.TarInfo("d/" * 40 + "file")
        info.size, info.mtime, info.uid = 5, 1_700_000_000, 77
        writing.addfile(info, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("./link/")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * (150 if format_ != tarfile.USTAR_FORMAT else 90)
        writing.addfile(link)
    first, second = unpack(made.getvalue())
    assert (first[0].name, first[1], first[0].mtime_ns, first[0].uid) == (
        "d/" * 40 + "file", b"hello", 1_700_000_000 * 10**9, 77,
    )  # fmt: skip
    assert (second[0].name, second[0].target) == ("link", link.linkname)


def info_of(**members: object) -> bytes:
    info = tarfile.TarInfo("x")
    for name, value in members.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (info_of(name="../up"), "leads out"),
        (info_of(name="/etc/passwd"), "leads out"),
        (info_of(name="a/../../up"), "leads out"),
        (info_of(type=tarfile.LNKTYPE, linkname="y"), "hard link"),
        (info_of(type=tarfile.CHRTYPE), "a device"),
        (info_of(type=tarfile.BLKTYPE), "a device"),
        (info_of(type=tarfile.GNUTYPE_SPARSE), "cannot be copied"),
        (info_of(type=tarfile.XHDTYPE, size=MAX_PAX_BYTES + 1), "extended header"),
        (info_of(type=tarfile.XHDTYPE, size=8) + b"99 a=b\n".ljust(512, b"\0"), "cannot be read"),
        (b"\x1f\x8b" + bytes(600), "no tar archive"),
    ],
)
def test_what_cannot_be_copied_is_refused_by_name(content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TarDecoder().feed(content)


def test_an_archive_that_ends_early_is_not_taken_for_whole() -> None:
    decoder = TarDecoder()
    decoder.feed(encode_member(Member(name="a", type="file", size=100)) + b"half")
    with pytest.raises(InvalidInput, match="ends in the middle"):
        decoder.finish()


def test_what_follows_the_end_is_found_there_only() -> None:
    whole = pack([(Member(name="a", type="file"), b"")])
    assert read_incidents(whole + encode_incidents(3, 4)) == (3, 4)
    assert read_incidents(whole) == (0, 0)
    assert read_incidents(encode_incidents(3, 4)) == (0, 0)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=700), max_size=6))
def test_nonsense_is_refused_and_nothing_else_happens(chunks: list[bytes]) -> None:
    decoder = TarDecoder()
    with contextlib.suppress(InvalidInput):
        for chunk in chunks:
            decoder.feed(chunk)
        decoder.finish()


@settings(max_examples=300)
@given(MEMBERS, st.integers(0, 511), st.binary(min_size=1, max_size=4))
def test_a_header_with_bytes_changed_is_refused_or_read_within_the_directory(member: Member, at: int, change: bytes) -> None:
    packed = bytearray(pack([(member, b"")]))
    packed[at : at + len(change)] = change
    with contextlib.suppress(InvalidInput):
        for item in TarDecoder().feed(bytes(packed)):
            if isinstance(item, Member):
                assert not item.name.startswith("/")
                assert ".." not in item.name.split("/")
