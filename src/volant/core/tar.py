"""Tar archives a piece at a time (POSIX.1-2001 pax, ustar, and GNU's long names when reading). Pure, and of bounded memory."""

from __future__ import annotations

import re
import tarfile
from typing import Literal

import msgspec

from volant.core.errors import InvalidInput

BLOCK_BYTES = 512
MAX_PAX_BYTES = 64 * 1024
END = bytes(2 * BLOCK_BYTES)

PROBLEM = "VOLANT.problem"
"""The keyword of the pax header that an archive which could not be finished ends with; its value is a problem document."""

MemberType = Literal["file", "directory", "symlink", "fifo"]
_TYPES: dict[bytes, MemberType] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "fifo",
}
_FLAGS: dict[MemberType, bytes] = {"file": b"0", "directory": b"5", "symlink": b"2", "fifo": b"6"}
_SECONDS = re.compile(r"-?[0-9]{1,12}(\.[0-9]+)?", re.ASCII)
_INCIDENTS = re.compile(rb'\{"skipped":([0-9]{1,18}),"torn":([0-9]{1,18})\}')
_NS = 1_000_000_000
_OCTAL_MAX = 8**7 - 1
_SIZE_MAX = 8**11 - 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an archive; a file's content follows it."""

    name: str
    type: MemberType
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    target: str = ""


def encode_member(member: Member) -> bytes:
    """The blocks that begin ``member``; after a file's content comes ``padding``."""
    name = member.name + ("/" if member.type == "directory" and not member.name.endswith("/") else "")
    raw_name, raw_target = _raw(name), _raw(member.target)
    records: dict[str, bytes] = {}
    if len(raw_name) > 100:
        records["path"] = raw_name
    if len(raw_target) > 100:
        records["linkpath"] = raw_target
    if member.size > _SIZE_MAX:
        records["size"] = b"%d" % member.size
    for key, number in (("uid", member.uid), ("gid", member.gid)):
        if number > _OCTAL_MAX:
            records[key] = b"%d" % number
    seconds, fraction = divmod(member.mtime_ns, _NS)
    if fraction or not 0 <= seconds <= _SIZE_MAX:
        records["mtime"] = _seconds(member.mtime_ns)
    header = _header(
        raw_name[:100], _FLAGS[member.type], member.mode, member.uid, member.gid, member.size, seconds, raw_target[:100]
    )
    return (_pax(records, b"x") if records else b"") + header


def encode_problem(problem: bytes) -> bytes:
    """What ends an archive that is not whole. No end of archive follows, so nobody takes it for all."""
    return _pax({PROBLEM: problem[: MAX_PAX_BYTES // 2]}, b"g")


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK_BYTES)


class TarDecoder:
    """Bytes in; members, and pieces of the content of the last, out. What follows the end of the archive is passed over."""

    def __init__(self) -> None:
        self.is_ended = False
        self._held = bytearray()
        self._left = 0
        self._skip = 0
        self._pax: dict[str, str] = {}
        self._global: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Member | bytes]:
        """Raises InvalidInput for what is no tar archive, or holds what cannot be copied."""
        found: list[Member | bytes] = []
        if self.is_ended:
            return found
        self._held += data
        while not self.is_ended:
            if self._left:
                piece = self._take(min(self._left, len(self._held)))
                if not piece:
                    break
                self._left -= len(piece)
                found.append(piece)
            elif self._skip:
                dropped = self._take(min(self._skip, len(self._held)))
                if not dropped:
                    break
                self._skip -= len(dropped)
            elif not self._next_header(found):
                break
        return found

    def finish(self) -> None:
        """No more comes. Raises InvalidInput when the archive is not whole."""
        if not self.is_ended and (self._left or self._held or self._pax):
            raise InvalidInput("the tar archive ends in the middle", hint="was its making interrupted?")

    def _next_header(self, found: list[Member | bytes]) -> bool:
        """True when there may be more in what is held."""
        if len(self._held) < BLOCK_BYTES:
            return False
        block = bytes(self._held[:BLOCK_BYTES])
        if not any(block):
            self.is_ended = True
            self._held.clear()
            return False
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise InvalidInput(f"this is no tar archive: {error}", hint="send an uncompressed tar") from error
        if info.size < 0:
            raise InvalidInput("the tar archive has a member of negative size")
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            return self._read_extended(info)
        del self._held[:BLOCK_BYTES]
        member = self._build(info)
        found.append(member)
        self._pax = {}
        self._left = member.size
        self._skip = -member.size % BLOCK_BYTES
        return True

    def _read_extended(self, info: tarfile.TarInfo) -> bool:
        if info.size > MAX_PAX_BYTES:
            raise InvalidInput(f"the tar archive has an extended header of {info.size} bytes, more than {MAX_PAX_BYTES}")
        whole = BLOCK_BYTES + info.size + (-info.size % BLOCK_BYTES)
        if len(self._held) < whole:
            return False
        content = self._take(whole)[BLOCK_BYTES : BLOCK_BYTES + info.size]
        if info.type == tarfile.GNUTYPE_LONGNAME:
            self._pax["path"] = _text(content.rstrip(b"\0"))
        elif info.type == tarfile.GNUTYPE_LONGLINK:
            self._pax["linkpath"] = _text(content.rstrip(b"\0"))
        elif info.type == tarfile.XGLTYPE:
            self._global |= _read_pax(content)
        else:
            self._pax |= _read_pax(content)
        return True

    def _build(self, info: tarfile.TarInfo) -> Member:
        told = {**self._global, **self._pax}
        name = _clean_name(told.get("path", info.name))
        type_ = _TYPES.get(info.type)
        if type_ is None or any(key.startswith("GNU.sparse") for key in told):
            what = "a hard link" if info.type == tarfile.LNKTYPE else "a device" if info.type in (b"3", b"4") else "of a kind"
            hint = "make it with tar --hard-dereference" if info.type == tarfile.LNKTYPE else "leave it out"
            raise InvalidInput(f"{name!r} in the archive is {what} that cannot be copied", hint=hint)
        try:
            size = int(told.get("size", info.size)) if type_ == "file" else 0
            return Member(
                name=name,
                type=type_,
                mode=info.mode & 0o7777,
                uid=int(told.get("uid", info.uid)),
                gid=int(told.get("gid", info.gid)),
                mtime_ns=_nanoseconds(told["mtime"]) if "mtime" in told else int(info.mtime) * _NS,
                size=_check_size(size),
                target=told.get("linkpath", info.linkname) if type_ == "symlink" else "",
            )
        except ValueError as error:
            raise InvalidInput(f"{name!r} in the archive has a number that is none") from error

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


def _check_size(size: int) -> int:
    if not 0 <= size < 2**53:
        raise ValueError(size)
    return size


def _clean_name(name: str) -> str:
    """``name`` relative and without ``.`` and empty parts, ``.`` for the top. Raises InvalidInput when it leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise InvalidInput(f"{name[:100]!r} in the archive leads out of the directory", hint="names in the archive are relative")
    return "/".join(parts) or "."


def _read_pax(content: bytes) -> dict[str, str]:
    """Records of ``LENGTH KEY=VALUE`` and a newline. Raises InvalidInput."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 8)
        digits = content[at:space]
        length = int(digits) if space > 0 and digits.isdigit() else 0
        record = content[space + 1 : at + length]
        key, equals, value = record.rstrip(b"\n").partition(b"=")
        if not equals or not record.endswith(b"\n") or len(content) < at + length:
            raise InvalidInput("the tar archive has an extended header that cannot be read")
        records[_text(key)] = _text(value)
        at += length
    return records


def _nanoseconds(text: str) -> int:
    if len(text) > 40 or not _SECONDS.fullmatch(text):
        raise ValueError(text)
    whole, _, fraction = text.partition(".")
    nanoseconds = int((fraction[:9]).ljust(9, "0")) if fraction else 0
    return int(whole) * _NS + (-nanoseconds if whole.startswith("-") else nanoseconds)


def _seconds(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), _NS)
    return b"%s%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, fraction)


def _pax(records: dict[str, bytes], flag: bytes) -> bytes:
    content = b"".join(_pax_record(key.encode(), value) for key, value in records.items())
    return _header(b"pax_header", flag, 0o644, 0, 0, len(content), 0, b"") + content + padding(len(content))


def _pax_record(key: bytes, value: bytes) -> bytes:
    body = b" %s=%s\n" % (key, value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _header(name: bytes, flag: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, target: bytes) -> bytes:
    fields = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % min(uid, _OCTAL_MAX),
            b"%07o\0" % min(gid, _OCTAL_MAX),
            b"%011o\0" % min(size, _SIZE_MAX),
            b"%011o\0" % min(max(mtime, 0), _SIZE_MAX),
            b" " * 8,
            flag,
            target.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0" * 2 % (0, 0),
            bytes(167),
        )
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def encode_incidents(skipped: int, torn: int) -> bytes:
    """A block that may follow the end of an archive, where nobody else looks."""
    return (b'{"skipped":%d,"torn":%d}' % (skipped, torn)).ljust(BLOCK_BYTES, b"\0")


def read_incidents(tail: bytes) -> tuple[int, int]:
    """``skipped`` and ``torn`` of an archive that ends with ``tail``; zeros when no such block follows its end."""
    end, block = tail[-3 * BLOCK_BYTES : -BLOCK_BYTES], tail[-BLOCK_BYTES:]
    found = _INCIDENTS.fullmatch(block.rstrip(b"\0"))
    if end != END or found is None:
        return 0, 0
    return int(found[1]), int(found[2])
