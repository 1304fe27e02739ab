from __future__ import annotations

import hashlib
import io
import itertools
import platform
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, TooLarge
from volant.fledge.cache import Cache
from volant.fledge.initramfs import busybox as busybox_module
from volant.fledge.initramfs.busybox import FILE_MAX_BYTES, BusyboxChoice, open_busybox, place_applets, read_applets
from volant.fledge.initramfs.interpreter import read_interpreter
from volant.fledge.progress import Progress

from .programs import make_busybox, make_elf

pytestmark = pytest.mark.spawns  # the cache removes its workspaces with rm

URL = "https://busybox.example.org/busybox"
Answer = Callable[[httpx2.Request], httpx2.Response]


async def fetch(tmp_path: Path, answer: Answer, *, url: str = URL, sha256: str) -> bytes:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    choice = BusyboxChoice(url=url, sha256=sha256)
    async with open_busybox(
        cache, choice, Progress(io.StringIO(), quiet=True), transport=httpx2.MockTransport(answer)
    ) as busybox:
        assert busybox.record.sha256 == sha256.lower() and busybox.record.url == url
        return busybox.path.read_bytes()


def answer_with(content: bytes) -> httpx2.Response:
    return httpx2.Response(200, stream=Body([content]))


class Body(httpx2.AsyncByteStream):
    """What comes over the network, and how many bytes of it were taken."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.taken += len(chunk)
            yield chunk


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def never(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"{request.url} was asked for")


def test_the_applets_are_those_that_the_program_itself_lists() -> None:
    program = Path("/usr/bin/busybox")
    if not program.exists():
        pytest.skip("no busybox is installed here to compare with")
    listed = subprocess.run([program, "--list-full"], capture_output=True, text=True, check=True).stdout.split()

    assert sorted(place_applets(read_applets(program.read_bytes()))) == sorted(
        path for path in listed if path not in ("bin/busybox", "linuxrc")
    )


def test_an_applet_that_nobody_knows_lies_in_bin() -> None:
    assert place_applets(("busybox", "ip", "linuxrc", "newfangled", "wget")) == ("sbin/ip", "bin/newfangled", "usr/bin/wget")


@given(st.binary(max_size=400))
def test_what_is_no_busybox_is_refused(junk: bytes) -> None:
    for content in (junk, b"\0[\0[[\0" + junk):
        try:
            assert "sh" in read_applets(content)
        except InvalidInput as error:
            assert "no list of programs" in error.message


@given(st.binary(max_size=200))
def test_any_bytes_have_an_interpreter_or_are_refused(junk: bytes) -> None:
    whole = make_elf(interpreter="/lib/ld.so")
    for content in (junk, b"#!" + junk, whole[: len(junk)] + junk, b"\x7fELF\x02\x01" + junk):
        try:
            read_interpreter(content, "it", machine="x86_64")
        except InvalidInput as error:
            assert error.message.startswith("it is ")


@pytest.mark.parametrize(
    ("program", "interpreter"),
    [
        (b"#!/bin/sh\necho", "/bin/sh"),
        (b"#! /usr/bin/env -S sh -e\n", "/usr/bin/env"),
        (make_elf(), ""),
        (make_elf(interpreter="/lib64/ld-linux-x86-64.so.2"), "/lib64/ld-linux-x86-64.so.2"),
    ],
)
def test_the_interpreter_of_a_program(program: bytes, interpreter: str) -> None:
    assert read_interpreter(program, "it", machine=platform.machine()) == interpreter


def test_a_program_of_another_machine_is_refused() -> None:
    other = bytearray(make_elf())
    struct.pack_into("<H", other, 0x12, 243)
    with pytest.raises(InvalidInput, match="another machine"):
        read_interpreter(bytes(other), "it", machine=platform.machine())


async def test_it_is_fetched_once_and_kept(tmp_path: Path) -> None:
    program = make_busybox()

    assert await fetch(tmp_path, lambda _: answer_with(program), sha256=digest(program).upper()) == program
    assert await fetch(tmp_path, never, sha256=digest(program)) == program


async def test_a_file_will_do(tmp_path: Path) -> None:
    program = make_busybox()
    path = tmp_path / "a busybox"
    path.write_bytes(program)

    assert await fetch(tmp_path, never, url=f"file://{tmp_path}/a%20busybox", sha256=digest(program)) == program
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        await fetch(tmp_path, never, url=f"file://{tmp_path}/none", sha256="0" * 64)


@pytest.mark.parametrize(
    ("url", "sha256", "said"),
    [
        ("http://busybox.example.org/busybox", "0" * 64, "is not fetched"),
        ("ftp://busybox.example.org/busybox", "0" * 64, "is not fetched"),
        ("file://elsewhere/busybox", "0" * 64, "is not fetched"),
        ("busybox", "0" * 64, "is not fetched"),
        (URL, "", "named by its digest"),
        (URL, "0" * 63, "named by its digest"),
    ],
)
async def test_what_cannot_be_right_is_never_asked_for(tmp_path: Path, url: str, sha256: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await fetch(tmp_path, never, url=url, sha256=sha256)


async def test_what_comes_must_be_what_was_named(tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match="not 0000"):
        await fetch(tmp_path, lambda _: answer_with(make_busybox()), sha256="0" * 64)
    with pytest.raises(HostError, match="answers 404"):
        await fetch(tmp_path, lambda _: httpx2.Response(404), sha256="0" * 64)
    dynamic = make_busybox(interpreter="/lib/ld-musl-x86_64.so.1")
    with pytest.raises(InvalidInput, match="needs /lib/ld-musl"):
        await fetch(tmp_path, lambda _: answer_with(dynamic), sha256=digest(dynamic))
    no_applets = make_elf()
    with pytest.raises(InvalidInput, match="no list of programs"):
        await fetch(tmp_path, lambda _: answer_with(no_applets), sha256=digest(no_applets))


async def test_no_more_is_taken_than_a_busybox_may_be(tmp_path: Path) -> None:
    body = Body(itertools.repeat(bytes(1 << 20)))
    with pytest.raises(TooLarge):
        await fetch(tmp_path, lambda _: httpx2.Response(200, stream=body), sha256="0" * 64)
    assert body.taken <= FILE_MAX_BYTES + (1 << 20)


def make_package(directory: Path, files: dict[str, bytes]) -> Path:
    (directory / "DEBIAN").mkdir(parents=True)
    (directory / "DEBIAN/control").write_text(
        "Package: busybox-static\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: test\n"
    )
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    deb = directory.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", directory, deb], check=True, capture_output=True)
    return deb


@pytest.mark.parametrize("place", ["bin/busybox", "usr/bin/busybox"])
def test_it_is_read_out_of_the_package(tmp_path: Path, place: str) -> None:
    deb = make_package(tmp_path / "package", {place: make_busybox(), "usr/share/doc/busybox": b"no program"})
    assert busybox_module._read_package(deb) == make_busybox()


def test_a_package_without_it_is_refused(tmp_path: Path) -> None:
    deb = make_package(tmp_path / "package", {"usr/share/busybox": b""})
    with pytest.raises(HostError, match="has no /bin/busybox"):
        busybox_module._read_package(deb)
