"""OCI layouts made by hand, so that a test decides every byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

Descriptor = dict[str, Any]


def make_entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """A tar member; ``xattrs`` become the PAX records that image layers use."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.mtime = kind, mode, len(content), 1000
    for attribute, value in fields.pop("xattrs", {}).items():
        member.pax_headers[f"SCHILY.xattr.{attribute}"] = value.decode("utf-8", "surrogateescape")
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def make_layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class LayoutWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifests: list[Descriptor] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add_blob(self, content: bytes, media_type: str, **more: Any) -> Descriptor:
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    def add_json(self, document: object, media_type: str, **more: Any) -> Descriptor:
        return self.add_blob(json.dumps(document).encode(), media_type, **more)

    def make_image(
        self, layers: Iterable[bytes] = (), settings: dict[str, Any] | None = None, layer_type: str = LAYER, **config: Any
    ) -> Descriptor:
        tars = list(layers)
        document = {
            "created": "2020-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": settings or {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "a test"} for _ in tars], **config,
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST, "config": self.add_json(document, CONFIG),
            "layers": [self.add_blob(gzip.compress(tar, mtime=0), layer_type) for tar in tars],
        }  # fmt: skip
        return self.add_json(manifest, MANIFEST)

    def tag(self, descriptor: Descriptor, name: str | None) -> None:
        """List ``descriptor`` in index.json, under ``name`` or without one."""
        annotations = {"annotations": {"org.opencontainers.image.ref.name": name}} if name is not None else {}
        self.manifests.append({**descriptor, **annotations})
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))


def write_archive(layout: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
