"""How snapshots are listed: what they can be filtered, sorted and searched by."""

from __future__ import annotations

from volant.core.snapshot import Snapshot
from volant.intent.listing import Kind

SNAPSHOTS: Kind[Snapshot] = Kind(
    cls=Snapshot,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "phase": lambda data: data["status"]["phase"],
        "vm": lambda data: data["spec"]["vm"],
        "size_bytes": lambda data: data["status"]["size_bytes"],
    },
    texts=lambda data: (data["meta"]["name"], data["spec"]["vm"], *data["meta"]["labels"], *data["meta"]["labels"].values()),
    # Those that were made for a fork go by themselves.
    shows=lambda data: not data["spec"]["transient"],
)
