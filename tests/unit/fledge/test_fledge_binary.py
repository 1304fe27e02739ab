from __future__ import annotations

import os
import shutil
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from volant.core.errors import InvalidInput, Unavailable
from volant.fledge.source import binary
from volant.fledge.source.binary import check_binary, digest_binary, make_binary_root, read_binary

X86_64, ARM_64 = 62, 183
LOAD, DYNAMIC, INTERP = 1, 2, 3


def make_elf(
    *segments: tuple[int, bytes],
    machine: int = X86_64,
    kind: int = 2,
    start: bytes = b"\x7fELF\x02\x01\x01",
    entry_bytes: int = 56,
) -> bytes:
    """An ELF file with these segments behind its program headers."""
    at = 64 + 56 * len(segments)
    header = start.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, entry_bytes, len(segments), 0, 0, 0
    )
    table, body = b"", b""
    for segment, content in segments:
        table += struct.pack("<IIQQQQQQ", segment, 5, at + len(body), 0, 0, len(content), len(content), 8)
        body += content
    return header + table + body


STATIC = make_elf((LOAD, b"code" * 30))
STATIC_PIE = make_elf((LOAD, b"code"), (DYNAMIC, struct.pack("<QQQQ", 5, 1, 0, 0)), kind=3)
DYNAMIC_ELF = make_elf((INTERP, b"/lib64/ld-linux-x86-64.so.2\0"), (LOAD, b"code"), (DYNAMIC, struct.pack("<QQQQ", 1, 1, 0, 0)))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write(tmp_path, STATIC)


def write(directory: Path, content: bytes) -> Path:
    path = directory / "server"
    path.write_bytes(content)
    return path


def test_static_programs_pass(tmp_path: Path) -> None:
    for content in (STATIC, STATIC_PIE):
        check_binary(write(tmp_path, content))
    check_binary(write(tmp_path, make_elf((LOAD, b"x"), machine=ARM_64)), "linux/arm64")


@pytest.mark.skipif(not Path("/bin/busybox").is_file(), reason="needs Debian's busybox-static")
def test_a_real_static_program_passes_and_a_real_dynamic_one_does_not() -> None:
    facts = read_binary(Path("/bin/busybox"))
    shell = Path(shutil.which("bash") or "/bin/bash")

    assert (facts.interpreter, facts.needed) == ("", False)
    assert "/ld-linux" in read_binary(shell).interpreter
    assert read_binary(shell).needed


def test_a_dynamic_program_is_refused_with_its_interpreter_and_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"wants /lib64/ld-linux-x86-64\.so\.2") as caught:
        check_binary(write(tmp_path, DYNAMIC_ELF))

    assert "CGO_ENABLED=0" in str(caught.value.hint)
    assert caught.value.field == "source.binary"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no ELF"),
        (b"#!/bin/sh\n", "is no ELF"),
        (b"\x7fELF\x02\x01\x01", "cut short in its header"),
        (make_elf((LOAD, b"x"), start=b"\x7fELF\x01\x01\x01"), "no 64-bit little-endian"),
        (make_elf((LOAD, b"x"), start=b"\x7fELF\x02\x02\x01"), "no 64-bit little-endian"),
        (make_elf((LOAD, b"x"), start=b"\x7fELF\x02\x01\x01\x09"), "another system"),
        (make_elf((LOAD, b"x"), kind=1), "object file"),
        (make_elf((LOAD, b"x"), kind=4), "object file"),
        (make_elf((LOAD, b"x"), machine=ARM_64), "is for ARM 64, the guest is linux/amd64"),
        (make_elf((LOAD, b"x"), machine=9999), "is for machine 9999"),
        (make_elf((LOAD, b"x"), entry_bytes=32), "no table of program headers"),
        (make_elf(), "no table of program headers"),
        (make_elf((4, b"note")), "nothing that is loaded"),
        (make_elf((INTERP, b""), (LOAD, b"x")), "interpreter in a way"),
        (make_elf((INTERP, b"/" * 5000), (LOAD, b"x")), "interpreter in a way"),
        (make_elf((LOAD, b"x"), (DYNAMIC, struct.pack("<QQ", 1, 1))), "wants shared libraries"),
        (STATIC[:-1], "part that is to be loaded"),
        (STATIC[:100], "cut short in its table"),
        (STATIC[:32] + b"\xff" * 8 + STATIC[40:], "cut short in its table"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_binary(write(tmp_path, content))


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        read_binary(tmp_path / name)


def test_an_unknown_platform_is_refused(program: Path) -> None:
    with pytest.raises(InvalidInput, match="no binary runs on 'linux/s390x'"):
        check_binary(program, "linux/s390x")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([STATIC, STATIC_PIE, DYNAMIC_ELF]),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
)
@example(STATIC, 64, [])
def test_damaged_headers_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, length: int, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(content[:length] if length < len(content) else content)
    for at, value in changes:
        if at < len(damaged):
            damaged[at] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)

    try:
        read_binary(path)
    except InvalidInput as error:
        assert error.message.startswith(str(path))
    if length < len(content):
        with pytest.raises(InvalidInput):  # every byte of these files is needed
            check_binary(path)


def test_the_root_has_what_a_server_expects(program: Path, tmp_path: Path) -> None:
    program.chmod(0o600)
    root = tmp_path / "root"
    root.mkdir()
    mask = os.umask(0o077)
    try:
        entrypoint = make_binary_root(program, root, certificates=False)
    finally:
        os.umask(mask)

    assert entrypoint == ("/bin/server",)
    modes = {str(path.relative_to(root)): oct(stat.S_IMODE(path.stat().st_mode)) for path in root.rglob("*")}
    assert modes == {
        "bin": "0o755", "bin/server": "0o755", "dev": "0o755", "etc": "0o755", "etc/group": "0o644", "etc/hosts": "0o644",
        "etc/nsswitch.conf": "0o644", "etc/passwd": "0o644", "proc": "0o755", "root": "0o700", "run": "0o755", "sys": "0o755",
        "tmp": "0o1777", "var": "0o755", "var/tmp": "0o1777",
    }  # fmt: skip
    assert (root / "bin/server").read_bytes() == STATIC
    assert [line.split(":")[:3] for line in (root / "etc/passwd").read_text().splitlines()] == [
        ["root", "x", "0"], ["nobody", "x", "65534"],
    ]  # fmt: skip


def test_certificates_come_along_when_asked_for(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = tmp_path / "ca.crt"
    monkeypatch.setattr(binary, "_find_certificates", lambda: authorities)
    authorities.write_text("one")
    plain, first = digest_binary(program, certificates=False), digest_binary(program, certificates=True)
    (tmp_path / "root").mkdir()

    make_binary_root(program, tmp_path / "root", certificates=True)
    authorities.write_text("two")

    assert (tmp_path / "root/etc/ssl/certs/ca-certificates.crt").read_text() == "one"
    assert len({plain, first, digest_binary(program, certificates=True)}) == 3
    assert digest_binary(program, certificates=False) == plain


def test_absent_certificates_are_said(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "CERTIFICATES", Path("/nowhere"))

    with pytest.raises(Unavailable, match="no /nowhere") as caught:
        digest_binary(program, certificates=True)

    assert caught.value.hint == "apt-get install ca-certificates"


def test_the_name_and_the_bytes_make_the_digest(program: Path) -> None:
    first = digest_binary(program, certificates=False)
    renamed = program.rename(program.with_name("other"))

    assert digest_binary(renamed, certificates=False) != first
    renamed.rename(program)
    assert digest_binary(program, certificates=False) == first
    program.write_bytes(STATIC_PIE)
    assert digest_binary(program, certificates=False) != first
