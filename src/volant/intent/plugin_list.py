"""How plugins are listed: what they can be filtered, sorted and searched by. Of each its default version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.core.plugin import Plugin
from volant.core.plugin_versions import is_default
from volant.intent.listing import Kind


def _phase(data: Mapping[str, Any]) -> str:
    return "Deleting" if data["meta"].get("deleting_at") else str(data["status"]["phase"])


def _texts(data: Mapping[str, Any]) -> Sequence[str]:
    meta = data["meta"]
    return (meta["name"], data["spec"]["version"], *meta["labels"], *meta["labels"].values())


PLUGINS: Kind[Plugin] = Kind(
    cls=Plugin,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "phase": _phase,
        "version": lambda data: data["spec"]["version"],
        "enabled": lambda data: str(data["spec"]["enabled"]).lower(),
        "vms": lambda data: data["status"]["vms"],
    },
    texts=_texts,
    shows=lambda data: is_default(data["meta"]["name"]),
)
