"""Layers as files, entries that no archiver would write, and what a tree has."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from volant.fledge.layers.budget import UnpackLimits
from volant.fledge.layers.layer import LayerBlob
from volant.fledge.layers.unpack import Unpacked, unpack_layers

from .oci_layouts import LAYER, make_layer

Entries = list[tuple[tarfile.TarInfo, bytes]]

EPOCH_S = 1704067200
LIMITS = UnpackLimits()


def write_blob(directory: Path, tar: bytes, *, packing: str = "gzip", media_type: str = LAYER, diff_id: bool = True) -> LayerBlob:
    packed = {
        "plain": lambda: tar,
        "gzip": lambda: gzip.compress(tar, 1, mtime=0),
        "zstd": lambda: zstandard.ZstdCompressor(level=1).compress(tar),
    }[packing]()
    return store_blob(directory, packed, media_type=media_type, diff_id=digest(tar) if diff_id else None)


def store_blob(directory: Path, content: bytes, *, media_type: str = LAYER, diff_id: str | None = None) -> LayerBlob:
    path = directory / f"blob-{hashlib.sha256(content).hexdigest()[:16]}"
    path.write_bytes(content)
    return LayerBlob(path, digest(content), len(content), media_type, diff_id)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def unpack(directory: Path, *layers: Entries | bytes, limits: UnpackLimits = LIMITS, root: str = "root") -> Unpacked:
    """Unpack layers, given as entries or as bytes of an archive, into ``directory / root``."""
    tars = [layer if isinstance(layer, bytes) else make_layer(layer) for layer in layers]
    blobs = [write_blob(directory, tar) for tar in tars]
    (directory / root).mkdir()
    return await unpack_layers(blobs, directory / root, limits, epoch_s=EPOCH_S)


class Found(msgspec.Struct, frozen=True):
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    content: bytes
    attributes: dict[str, bytes]


def read_tree(root: Path) -> dict[bytes, Found]:
    """Everything in a tree; the root itself is b"."."""
    top = os.fsencode(root)
    found = {}
    for directory, directories, files in os.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in [*files, *directories])]:
            facts = os.lstat(path)
            if stat.S_ISDIR(facts.st_mode) and path != directory:
                continue
            content = b""
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
            }
            found[os.path.relpath(path, top)] = Found(
                facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_rdev, content, attributes
            )
    return found


def make_header(name: bytes, *, typeflag: bytes = b"0", size: bytes = b"00000000000\0", **fields: Any) -> bytes:
    """One block of a ustar header, its numbers as they are given."""
    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x", name, fields.get("mode", b"0000644\0"),
            fields.get("uid", b"0000000\0"), fields.get("gid", b"0000000\0"), size, fields.get("mtime", b"00000001750\0"),
            b" " * 8, typeflag, fields.get("link", b""), fields.get("magic", b"ustar\x0000"), b"", b"",
            fields.get("major", b"0000000\0"), fields.get("minor", b"0000000\0"),
            fields.get("prefix", b""),
        )
    )  # fmt: skip
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(number: int) -> bytes:
    return b"%011o\0" % number


def make_pax(records: list[tuple[bytes, bytes]], typeflag: bytes = b"x") -> bytes:
    """An extended header with these records, values as they are."""
    body = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest) + len(str(len(rest)))))
        body += str(length).encode() + rest
    return make_header(b"PaxHeaders/x", typeflag=typeflag, size=octal(len(body))) + body + bytes(-len(body) % 512)


def finish(*blocks: bytes) -> bytes:
    return b"".join(blocks) + bytes(1024)
