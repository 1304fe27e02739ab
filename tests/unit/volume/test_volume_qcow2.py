"""What is read of a qcow2 file before QEMU opens it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError
from volant.volume.qcow2 import MAGIC, check_qcow2


def header(version: int = 3, backing: int = 0, crypt: int = 0, features: int = 0, magic: int = MAGIC) -> bytes:
    return struct.pack(">IIQIIQIIQQIIQQ", magic, version, backing, 0, 16, 1 << 20, crypt, 0, 0, 0, 1, 0, 0, features) + bytes(24)


def check(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        check_qcow2(descriptor, "data")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("version", [2, 3])
def test_one_that_is_whole_is_opened(tmp_path: Path, version: int) -> None:
    check(header(version), tmp_path / "disk")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no qcow2"),
        (bytes(512), "no qcow2"),
        (header(magic=0x51464900), "no qcow2"),
        (header(version=4), "of version 4"),
        (header(backing=104), "stands on another file"),
        (header(version=2, backing=104), "stands on another file"),
        (header(crypt=2), "encrypted"),
        (header(features=4), "data in another file"),
        (header(features=2), "corrupt"),
    ],
)
def test_one_that_needs_more_than_itself_is_not(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(HostError, match=words):
        check(content, tmp_path / "disk")


@given(st.binary(max_size=200))
def test_no_content_is_a_surprise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-qcow2"
    try:
        check(content, path)
    except HostError:
        return
    assert content[:4] == b"QFI\xfb" and content[8:16] == bytes(8)
