"""Archives as ``docker save`` writes them, made by hand, so that a test decides every byte."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

from .oci_layouts import make_entry, make_layer

Entry = tuple[tarfile.TarInfo, bytes]


def make_image_members(
    layers: Iterable[bytes], tags: list[str] | None, *, number: int = 1, **config: Any
) -> tuple[list[Entry], dict[str, Any]]:
    """The members of one image, and what manifest.json says of it."""
    members, names, diff_ids = [], [], []
    for at, layer in enumerate(layers):
        names.append(f"{number}{at}/layer.tar")
        members.append(make_entry(names[-1], layer))
        diff_ids.append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
    document = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["web"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **config,
        }
    ).encode()
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    return [*members, make_entry(name, document)], {"Config": name, "RepoTags": tags, "Layers": names}


def make_archive(members: Iterable[Entry], manifest: object | None) -> bytes:
    """``manifest`` comes last, as Docker has it; None leaves it out."""
    extra = [] if manifest is None else [make_entry("manifest.json", json.dumps(manifest).encode())]
    return make_layer([*members, *extra])


def make_small_layer(name: str = "file") -> bytes:
    return make_layer([make_entry(name, name.encode())])


def change_member(archive: bytes, name: str, change: Any) -> bytes:
    """The archive with ``change`` applied to the member and its content."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entries = []
        for member in tar:
            reader = tar.extractfile(member)
            content = reader.read() if reader is not None else b""
            entries.append(change(member, content) if member.name == name else (member, content))
    return make_layer(entries)
