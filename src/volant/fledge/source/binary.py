"""One static executable as a whole guest: checked, and put into the little that a server expects around it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput, Unavailable

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian's ca-certificates keeps all of them, and where Go, Rust's native-certs and OpenSSL look."""

HEADER_BYTES = 64
PROGRAM_HEADER_BYTES = 56
PROGRAM_HEADERS_MAX = 1024
STRING_MAX_BYTES = 4096
DYNAMIC_MAX_BYTES = 1 << 20

_MACHINES = {"linux/amd64": 62, "linux/arm64": 183}
_MACHINE_NAMES = {
    3: "x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC 64", 22: "S/390", 40: "ARM", 62: "x86-64", 183: "ARM 64", 243: "RISC-V",
}  # fmt: skip
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC_ENTRY = struct.Struct("<QQ")
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED = 0, 1

_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUPS = "root:x:0:\nnogroup:x:65534:\n"
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
# glibc asks DNS alone without it, and Go's resolver follows it.
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755, "tmp": 0o1777,
    "var": 0o755, "var/tmp": 0o1777,
}  # fmt: skip


class Binary(msgspec.Struct, frozen=True):
    """``machine`` is e_machine; ``interpreter`` is empty for what needs none, and ``needed`` are shared libraries."""

    machine: int
    interpreter: str
    needed: bool


def read_binary(path: Path) -> Binary:
    """What the ELF headers of an executable say (System V ABI, "Object Files" and "Program Loading").

    Raises:
        InvalidInput: it is no 64-bit little-endian Linux executable, or its headers point outside of it.
    """
    try:
        with path.open("rb") as stream:
            return _Elf(path, stream.fileno()).read()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="source.binary") from error


def check_binary(path: Path, platform: str = "linux/amd64") -> None:
    """Refuse what cannot run alone in a guest of ``platform``.

    Raises:
        InvalidInput: it is for another machine, or wants an interpreter or libraries that would not be there.
    """
    if platform not in _MACHINES:
        raise InvalidInput(f"no binary runs on {platform!r}", field="source.platform", hint=f"one of {', '.join(_MACHINES)}")
    binary = read_binary(path)
    if binary.machine != _MACHINES[platform]:
        name = _MACHINE_NAMES.get(binary.machine, f"machine {binary.machine}")
        raise InvalidInput(f"{path} is for {name}, the guest is {platform}", field="source.binary", hint="build it for the guest")
    if binary.interpreter or binary.needed:
        wants = binary.interpreter or "shared libraries"
        raise InvalidInput(
            f"{path} is not static: it wants {wants}, which a guest of one file does not have",
            field="source.binary",
            hint="link it statically (Go: CGO_ENABLED=0; Rust: a musl target; C: -static), or build from packages",
        )


def digest_binary(path: Path, *, certificates: bool) -> str:
    """64 hexadecimal digits over all that ``make_binary_root`` would put into the root. Raises as it does."""
    digest = hashlib.sha256(_name_program(path).encode("utf-8", "surrogateescape"))
    for source in (path, *([_find_certificates()] if certificates else [])):
        with source.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def make_binary_root(path: Path, root: Path, *, certificates: bool, platform: str = "linux/amd64") -> tuple[str, ...]:
    """Fill the empty directory ``root`` and return the entrypoint: ``/bin/NAME``.

    Around the program there are users root and nobody, names for loopback, places to mount and to write; ``certificates`` adds
    this host's certificate authorities. Owners are the caller's: root's, for root or under fakeroot.

    Raises:
        InvalidInput: see ``check_binary``. Unavailable: there are no certificates here.
    """
    check_binary(path, platform)
    entrypoint = _name_program(path)
    for name, mode in _DIRECTORIES.items():
        _make_directory(root / name, mode)
    for name, text in (("passwd", _USERS), ("group", _GROUPS), ("hosts", _HOSTS), ("nsswitch.conf", _NSSWITCH)):
        (root / "etc" / name).write_text(text)
        (root / "etc" / name).chmod(0o644)
    _copy(path, root / entrypoint[1:], 0o755)
    if certificates:
        for directory in (root / "etc/ssl", root / "etc/ssl/certs"):
            _make_directory(directory, 0o755)
        _copy(_find_certificates(), root / str(CERTIFICATES)[1:], 0o644)
    return (entrypoint,)


class _Elf:
    """Reads by position and never past what the headers may claim."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def read(self) -> Binary:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise self._refuse("is no regular file")
        header = os.pread(self._descriptor, HEADER_BYTES, 0)
        if header[:4] != b"\x7fELF":
            raise self._refuse("is no ELF executable", "give [source] a compiled program; a script needs packages around it")
        if len(header) < HEADER_BYTES:
            raise self._refuse("is cut short in its header")
        if header[4:7] != b"\x02\x01\x01":
            raise self._refuse("is no 64-bit little-endian ELF file of version 1", "build it for x86-64 or ARM 64")
        kind, machine = struct.unpack_from("<HH", header, 16)
        table_at, entry_bytes, count = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
        if header[7] not in (0, 3):
            raise self._refuse("is for another system than Linux")
        if kind not in (_EXECUTABLE, _SHARED):
            raise self._refuse("is an object file, no executable", "link it first")
        if entry_bytes != PROGRAM_HEADER_BYTES or not 0 < count <= PROGRAM_HEADERS_MAX:
            raise self._refuse("has no table of program headers that can be")
        table = self._take(table_at, count * PROGRAM_HEADER_BYTES, "table of program headers")
        return self._read_segments(machine, list(_PROGRAM_HEADER.iter_unpack(table)))

    def _read_segments(self, machine: int, segments: list[tuple[int, ...]]) -> Binary:
        interpreter = b""
        needed = loads = False
        size = os.fstat(self._descriptor).st_size
        for kind, _flags, at, _address, _physical, file_bytes, memory_bytes, _align in segments:
            if kind == _PT_LOAD:
                loads = True
                if at + file_bytes > size or file_bytes > memory_bytes:
                    raise self._refuse("is cut short: a part that is to be loaded is not there")
            elif kind == _PT_INTERP:
                if not 0 < file_bytes <= STRING_MAX_BYTES:
                    raise self._refuse("names an interpreter in a way that cannot be")
                interpreter = self._take(at, file_bytes, "name of the interpreter").partition(b"\0")[0]
            elif kind == _PT_DYNAMIC:
                if file_bytes > DYNAMIC_MAX_BYTES:
                    raise self._refuse("has a dynamic section that cannot be")
                section = self._take(at, file_bytes - file_bytes % _DYNAMIC_ENTRY.size, "dynamic section")
                needed = _needs_libraries(section)
        if not loads:
            raise self._refuse("has nothing that is loaded")
        return Binary(machine, interpreter.decode("utf-8", "backslashreplace"), needed)

    def _take(self, at: int, size: int, what: str) -> bytes:
        # An offset of 64 bits can be more than pread takes.
        content = os.pread(self._descriptor, size, at) if at < 1 << 62 else b""
        if len(content) != size:
            raise self._refuse(f"is cut short in its {what}")
        return content

    def _refuse(self, what: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"{self._path} {what}", field="source.binary", hint=hint)


def _needs_libraries(section: bytes) -> bool:
    for tag, _value in _DYNAMIC_ENTRY.iter_unpack(section):
        if tag == _DT_NULL:
            return False
        if tag == _DT_NEEDED:
            return True
    return False


def _name_program(path: Path) -> str:
    return f"/bin/{path.name}"


def _find_certificates() -> Path:
    if not CERTIFICATES.is_file():
        raise Unavailable(f"there is no {CERTIFICATES} here to take along", hint="apt-get install ca-certificates")
    return CERTIFICATES


def _make_directory(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)


def _copy(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)
