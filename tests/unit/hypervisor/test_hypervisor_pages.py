"""A guest's memory as a file: what is written, and that it is put back where it was."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.qemu.memory import Bases, base_name, create_memory, find_mapping, find_memory
from volant.hypervisor.qemu.pages import (
    MAP,
    PAGE_BYTES,
    PAGES,
    find_private,
    read_into_memory,
    read_into_process,
    read_map,
    save_own,
    save_private,
)

MIB = 1 << 20
SIZE_MIB = 2
PAGES_IN_ALL = SIZE_MIB * MIB // PAGE_BYTES


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_memory("volant-test", SIZE_MIB)
    yield descriptor
    os.close(descriptor)


def write_page(memory: int, page: int, fill: bytes) -> None:
    os.pwrite(memory, fill * PAGE_BYTES, page * PAGE_BYTES)


def read_all(memory: int) -> bytes:
    return os.pread(memory, SIZE_MIB * MIB, 0)


def test_only_what_is_not_zero_is_written(memory: int, tmp_path: Path) -> None:
    for page, fill in ((0, b"a"), (1, b"b"), (7, b"\0"), (9, b"c"), (PAGES_IN_ALL - 1, b"d")):
        write_page(memory, page, fill)
    assert save_own(memory, tmp_path) == 4 * PAGE_BYTES
    assert read_map(tmp_path) == [(0, 2), (9, 1), (PAGES_IN_ALL - 1, 1)]
    assert (tmp_path / PAGES).stat().st_size == 4 * PAGE_BYTES


def test_what_was_written_is_put_back(memory: int, tmp_path: Path) -> None:
    for page in range(0, PAGES_IN_ALL, 3):
        write_page(memory, page, bytes([1 + page % 255]))
    save_own(memory, tmp_path)
    other = create_memory("volant-other", SIZE_MIB)
    try:
        read_into_memory(tmp_path, other)
        assert read_all(other) == read_all(memory)
    finally:
        os.close(other)


@given(st.sets(st.integers(0, 63)), st.sets(st.integers(0, 63)))
def test_any_pages_come_back(tmp_path_factory: pytest.TempPathFactory, full: set[int], zeroed: set[int]) -> None:
    directory = tmp_path_factory.mktemp("pages")
    memory, other = create_memory("volant-test", SIZE_MIB), create_memory("volant-other", SIZE_MIB)
    try:
        for page in full:
            write_page(memory, page, bytes([page + 1]))
        for page in zeroed:
            write_page(memory, page, b"\0")
        assert save_own(memory, directory) == len(full - zeroed) * PAGE_BYTES
        read_into_memory(directory, other)
        assert read_all(other) == read_all(memory)
    finally:
        os.close(memory)
        os.close(other)


def test_the_private_pages_of_a_process_are_found_saved_and_put_back(memory: int, tmp_path: Path) -> None:
    for page in range(16):
        write_page(memory, page, b"b")
    with mmap.mmap(memory, SIZE_MIB * MIB, flags=mmap.MAP_PRIVATE) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert mapped[0] == ord("b")
        mapped[3 * PAGE_BYTES] = ord("m")
        mapped[4 * PAGE_BYTES : 5 * PAGE_BYTES] = bytes(PAGE_BYTES)
        mapped[40 * PAGE_BYTES] = ord("n")
        assert find_private(os.getpid(), address, SIZE_MIB * MIB) == [(3, 2), (40, 1)]
        assert save_private(os.getpid(), address, SIZE_MIB * MIB, tmp_path) == 3 * PAGE_BYTES, "zeros are not the base's"
        wanted = bytes(mapped)
    with mmap.mmap(memory, SIZE_MIB * MIB, flags=mmap.MAP_PRIVATE) as again:
        address = ctypes.addressof(ctypes.c_char.from_buffer(again))
        read_into_process(tmp_path, os.getpid(), address, SIZE_MIB * MIB)
        assert bytes(again) == wanted
    assert read_all(memory)[3 * PAGE_BYTES] == ord("b"), "the base is as it was"


def test_a_map_that_leads_out_of_the_memory_is_refused(memory: int, tmp_path: Path) -> None:
    (tmp_path / PAGES).write_bytes(bytes(PAGE_BYTES))
    (tmp_path / MAP).write_bytes(PAGES_IN_ALL.to_bytes(8, "little") + (1).to_bytes(8, "little"))
    with pytest.raises(HostError):
        read_into_memory(tmp_path, memory)
    with pytest.raises(HostError):
        read_into_process(tmp_path, os.getpid(), 0, SIZE_MIB * MIB)


def test_a_memory_that_is_shorter_than_its_map_is_refused(memory: int, tmp_path: Path) -> None:
    write_page(memory, 0, b"a")
    save_own(memory, tmp_path)
    os.truncate(tmp_path / PAGES, 100)
    with pytest.raises(HostError):
        read_into_memory(tmp_path, memory)


@pytest.mark.parametrize("length", [1, 15, 17])
def test_a_map_of_a_wrong_length_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / MAP).write_bytes(bytes(length))
    with pytest.raises(HostError):
        read_map(tmp_path)


def test_a_process_that_is_gone_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        save_private(2**22, 0, MIB, tmp_path)
    with pytest.raises(Unavailable):
        find_mapping(2**22, "volant-test")
    assert find_memory(2**22, "volant-test") is None


async def test_a_base_is_loaded_once_sealed_and_found_again(memory: int, tmp_path: Path) -> None:
    write_page(memory, 5, b"x")
    save_own(memory, tmp_path)
    bases = Bases()
    first, second = await bases.open("k", tmp_path, SIZE_MIB), await bases.open("k", tmp_path, SIZE_MIB)
    try:
        assert os.fstat(first).st_ino == os.fstat(second).st_ino
        assert read_all(first) == read_all(memory)
        with pytest.raises(PermissionError):
            os.pwrite(first, b"no", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(first, 0)
        with mmap.mmap(first, SIZE_MIB * MIB, flags=mmap.MAP_PRIVATE) as mapped:
            assert find_mapping(os.getpid(), base_name("k")) == ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        later = Bases()
        later.adopt("k", os.getpid())
        assert later.is_held("k")
        later.release(set())
    finally:
        os.close(first)
        os.close(second)
        bases.release(set())
    assert not bases.is_held("k")


async def test_a_memory_that_is_not_sealed_is_never_taken_for_a_base() -> None:
    impostor = create_memory(base_name("k"), SIZE_MIB)
    try:
        bases = Bases()
        bases.adopt("k", os.getpid())
        assert not bases.is_held("k")
    finally:
        os.close(impostor)
