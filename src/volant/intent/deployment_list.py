"""How deployments are listed: what they can be filtered, sorted and searched by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.core.deployment import Deployment
from volant.intent.listing import Kind


def _phase(data: Mapping[str, Any]) -> str:
    return "Deleting" if data["meta"].get("deleting_at") else str(data["status"]["phase"])


def _texts(data: Mapping[str, Any]) -> Sequence[str]:
    meta = data["meta"]
    return (meta["name"], data["spec"]["vm"]["plugin"], *meta["labels"], *meta["labels"].values())


DEPLOYMENTS: Kind[Deployment] = Kind(
    cls=Deployment,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "phase": _phase,
        "plugin": lambda data: data["spec"]["vm"]["plugin"],
        "replicas": lambda data: data["spec"]["replicas"],
        "available": lambda data: data["status"]["available"],
    },
    texts=_texts,
)
