"""What lies in a root: one line for each file, so that two builds can be compared without mounting anything.

``contents.jsonl.zst`` is a JSON object a line, in the order of the paths' bytes, compressed with Zstandard.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec
import zstandard

from volant.core.errors import InvalidInput

FILE = "contents.jsonl.zst"
LEVEL = 3
CONTENTS_MAX_BYTES = 1 << 30
LINE_MAX_BYTES = 1 << 20

Kind = Literal["file", "directory", "symlink", "char", "block", "fifo", "socket"]
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``mode`` has the permission bits, ``mtime_ns`` counts since 1970, ``sha256`` is of a file's content; ``link`` is where a
    symbolic link leads, or the first name of a file that has several; ``xattrs`` are hexadecimal."""

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    link: str = ""
    device: str = ""
    xattrs: dict[str, str] = {}


def list_tree(root: Path) -> Iterator[Entry]:
    """Every entry under ``root``, which is ``/``. Names that are no UTF-8 have their odd bytes as ``\\udcXX``."""
    first_names: dict[tuple[int, int], str] = {}
    with ExitStack() as opened:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, top)
        yield _describe("/", ".", top, first_names)
        # By descriptor, because paths may be longer than a system call takes; on a stack, because they may be deep.
        waiting = [("/", top, _sorted_names(top))]
        while waiting:
            path, directory, names = waiting[-1]
            name = next(names, None)
            if name is None:
                waiting.pop()
                if waiting:
                    os.close(directory)
                continue
            entry = _describe(f"{path.rstrip('/')}/{name}", name, directory, first_names)
            yield entry
            if entry.kind == "directory":
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                waiting.append((entry.path, below, _sorted_names(below)))


def _sorted_names(directory: int) -> Iterator[str]:
    return iter(sorted(os.listdir(directory), key=os.fsencode))


def _describe(path: str, name: str, directory: int, first_names: dict[tuple[int, int], str]) -> Entry:
    facts = os.lstat(name, dir_fd=directory)
    kind = _KINDS[stat.S_IFMT(facts.st_mode)]
    link, digest, device = "", "", ""
    if kind == "symlink":
        link = os.readlink(name, dir_fd=directory)
    elif kind == "file":
        first = first_names.setdefault((facts.st_dev, facts.st_ino), path) if facts.st_nlink > 1 else path
        link = first if first != path else ""
        digest = "" if link else _digest(name, directory)
    elif kind in ("char", "block"):
        device = f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
    here = f"/proc/self/fd/{directory}/{name}"
    names = os.listxattr(here, follow_symlinks=False)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(facts.st_mode),
        uid=facts.st_uid,
        gid=facts.st_gid,
        size=facts.st_size if kind == "file" else 0,
        mtime_ns=facts.st_mtime_ns,
        sha256=digest,
        link=link,
        device=device,
        xattrs={one: os.getxattr(here, one, follow_symlinks=False).hex() for one in sorted(names)},
    )


def _digest(name: str, directory: int) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_contents(root: Path, target: Path) -> None:
    """List ``root`` into the file ``target``; the same tree gives the same bytes."""
    encoder = msgspec.json.Encoder()
    with target.open("wb") as raw, zstandard.ZstdCompressor(LEVEL).stream_writer(raw, closefd=False) as stream:
        for entry in list_tree(root):
            # JSON has no way to say a byte that is no UTF-8 but this.
            stream.write(encoder.encode(_escape(entry)) + b"\n")


def read_contents(path: Path) -> Iterator[Entry]:
    """What ``write_contents`` wrote. Raises InvalidInput: it is damaged, or larger than any that fledge writes."""
    decoder = msgspec.json.Decoder(Entry)
    read_bytes = 0
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            lines = io.BufferedReader(stream)
            while line := lines.readline(LINE_MAX_BYTES):
                read_bytes += len(line)
                if read_bytes > CONTENTS_MAX_BYTES:
                    raise InvalidInput(f"{path} lists more than {CONTENTS_MAX_BYTES} bytes")
                yield _unescape(decoder.decode(line))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _escape(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, path=_escape_text(entry.path), link=_escape_text(entry.link))


def _unescape(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, path=_unescape_text(entry.path), link=_unescape_text(entry.link))


def _escape_text(text: str) -> str:
    """Bytes that are no UTF-8 as ``\\xNN``, and a backslash as two."""
    if text.isascii() and "\\" not in text:
        return text
    return os.fsencode(text).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _unescape_text(text: str) -> str:
    if "\\" not in text:
        return text
    content, at = bytearray(), 0
    while at < len(text):
        if text[at] != "\\":
            content += text[at].encode()
            at += 1
        elif text[at + 1 : at + 2] == "x":
            content.append(int(text[at + 2 : at + 4], 16))
            at += 4
        else:
            content += b"\\"
            at += 2
    return os.fsdecode(bytes(content))
