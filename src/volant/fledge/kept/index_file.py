"""An index of the plugins in a directory, by which they are found and installed by name."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput, NotFound
from volant.core.manifest import MANIFEST_MAX_BYTES, read_manifest
from volant.core.plugin_index import INDEX_MAX_BYTES, SCHEMA_VERSION, IndexedPlugin, IndexedVersion, IndexFile, read_index

DESCRIPTION_LABELS = ("org.opencontainers.image.description", "description")
MAX_MANIFESTS = 10_000


def build_index(directory: Path, beside: Path) -> bytes:
    """The index as it is to lie in ``beside``.

    Raises:
        NotFound: there is no plugin. InvalidInput: a manifest breaks a rule, or there is a version twice.
    """
    plugins: dict[str, IndexedPlugin] = {}
    for path in sorted(directory.rglob("manifest.json"))[:MAX_MANIFESTS]:
        with path.open("rb") as file:
            content = file.read(MANIFEST_MAX_BYTES + 1)
        try:
            manifest = read_manifest(content)
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error.message}", field=error.field, hint=error.hint) from error
        version = IndexedVersion(
            version=manifest.version,
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            source=os.path.relpath(path, beside),
        )
        known = plugins.get(manifest.name)
        described = IndexedPlugin(
            name=manifest.name,
            description=next((manifest.labels[label] for label in DESCRIPTION_LABELS if manifest.labels.get(label)), "")[:1024],
            labels={key: value[:1024] for key, value in manifest.labels.items()},
            versions=(version,),
        )
        if known is None:
            plugins[manifest.name] = described
            continue
        versions = sorted((*known.versions, version), key=lambda one: order_version(one.version), reverse=True)
        newest = described if versions[0] is version else known
        plugins[manifest.name] = msgspec.structs.replace(newest, versions=tuple(versions))
    if not plugins:
        raise NotFound(f"there is no manifest.json in {directory}", hint="fledge build -o DIRECTORY/NAME makes one")
    made = msgspec.json.encode(IndexFile(schema_version=SCHEMA_VERSION, plugins=tuple(plugins[name] for name in sorted(plugins))))
    formatted = msgspec.json.format(made, indent=1) + b"\n"
    if len(formatted) > INDEX_MAX_BYTES:
        raise InvalidInput(f"the index has {len(formatted)} bytes, more than the {INDEX_MAX_BYTES} that it may have")
    read_index(formatted, f"file://{beside.absolute()}/index.json")
    return formatted


def order_version(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key by which versions stand in their order: numbers by value, and what is not final (``-rc1``, ``~beta``) before it."""
    parts = re.findall(r"\d+|[a-zA-Z]+|[~-]", version.partition("+")[0])
    ranked = []
    for part in parts:
        if part.isdigit():
            ranked.append((2, int(part[:18]), ""))
        elif part in "~-":
            ranked.append((0, 0, part))
        else:
            ranked.append((1, 0, part))
    return (*ranked, (1, 0, ""))
