"""The JSON Schemas (draft 2020-12) of the files that people write, made from the records that read them."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.core.manifest import Manifest
from volant.core.plugin_index import IndexFile
from volant.fledge.recipe.manifest_toml import ManifestToml
from volant.fledge.recipe.record import Recipe

_FILES: dict[str, tuple[type[msgspec.Struct], str]] = {
    "fledge.toml": (Recipe, "What fledge builds, version 1"),
    "manifest.toml": (ManifestToml, "A plugin's description beside its fledge.toml"),
    "manifest.json": (Manifest, "The plugin manifest, version 1"),
    "plugin-index.json": (IndexFile, "A plugin index, version 1"),
}
SCHEMA_FILES = {file: f"{file}.schema.json" for file in _FILES}
"""What each is called in docs/reference/schemas."""


def render_schema(file: str) -> bytes:
    """The schema of ``fledge.toml``, ``manifest.toml``, ``manifest.json`` or ``plugin-index.json``."""
    record, title = _FILES[file]
    document: dict[str, Any] = msgspec.json.schema(record)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **document}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def write_schemas() -> None:
    """``python -m volant.fledge.recipe.schema``: into docs/reference/schemas, seen from the project's directory."""
    from pathlib import Path

    directory = Path("docs/reference/schemas")
    directory.mkdir(parents=True, exist_ok=True)
    for file, name in SCHEMA_FILES.items():
        (directory / name).write_bytes(render_schema(file))


if __name__ == "__main__":
    write_schemas()
