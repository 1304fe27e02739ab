"""Root trees with package databases, written by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

DEB = """\
Package: {name}
Status: {status}
Priority: optional
Maintainer: {maintainer}
Architecture: {architecture}
Multi-Arch: same
Source: {source}
Version: {version}
Description: something
 with a second line
 .
 and a third

"""


def write(root: Path, path: str, content: str | bytes) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
    return target


def make_deb(
    name: str,
    version: str,
    *,
    architecture: str = "amd64",
    status: str = "install ok installed",
    maintainer: str = "Jörg Ümläut <joerg@example.org>",
    source: str = "",
) -> str:
    return DEB.format(
        name=name, version=version, architecture=architecture, status=status, maintainer=maintainer, source=source or name
    )


def make_apk(name: str, version: str, **fields: str) -> str:
    lines = {"C": "Q1pT", "P": name, "V": version, "A": "x86_64", **fields}
    return "".join(f"{key}:{value}\n" for key, value in lines.items()) + "F:usr/bin\nM:0:0:0755\nR:tool\na:0:0:0755\nZ:Q1x\n\n"


def write_python(root: Path, path: str, name: str, version: str, *headers: str) -> Path:
    return write(root, path, "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers, "", "About.")))


def write_node(root: Path, directory: str, **fields: object) -> Path:
    return write(root, f"{directory}/package.json", json.dumps(fields))


def make_ndb(headers: list[tuple[int, bytes]]) -> bytes:
    """An rpm database as rpm's ndb backend lays it out: a page of slots, then the package headers in blocks of 16 bytes."""
    slots, blobs = [], b""
    for number, header in headers:
        blob = struct.pack("<4sIII", b"BlbS", number, 1, len(header)) + header + struct.pack("<II4s", 0, len(header), b"BlbE")
        blob += bytes(-len(blob) % 16)
        slots.append(struct.pack("<4sIII", b"Slot", number, (4096 + len(blobs)) // 16, len(blob) // 16))
        blobs += blob
    slots += [struct.pack("<4sIII", b"Slot", 0, 0, 0)] * (254 - len(slots))
    return struct.pack("<4sIII16x", b"RpmP", 0, 1, 1) + b"".join(slots) + blobs
