"""``build.json``: what went into an artifact and what came out."""

from __future__ import annotations

import msgspec

from volant.fledge.content import FileRecord
from volant.fledge.debian.apt import Package
from volant.fledge.source.material import SourceRecord

MANIFEST = "manifest.json"
BUILD_RECORD = "build.json"


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What went in and what came out. It holds neither times nor paths: the same inputs give the same record.

    ``kernel`` is the package of the kernel or of its source; ``kernel_options_sha256`` is empty unless it was compiled here.
    """

    schema_version: str = "1"
    fledge: str
    name: str
    version: str
    strategy: str
    source: SourceRecord
    kernel: Package
    kernel_label: str
    kernel_options_sha256: str = ""
    kernel_release: str
    kestrel_sha256: str
    modules: tuple[str, ...]
    tools: dict[str, str]
    outputs: dict[str, FileRecord]
