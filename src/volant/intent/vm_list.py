"""How VMs are listed: what they can be filtered, sorted and searched by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.core.vm import VM
from volant.intent.listing import Kind


def _phase(data: Mapping[str, Any]) -> str:
    return "Deleting" if data["meta"].get("deleting_at") else str(data["status"]["phase"])


def _texts(data: Mapping[str, Any]) -> Sequence[str]:
    meta, spec = data["meta"], data["spec"]
    addresses = [address["ip"] for address in data["status"]["addresses"]]
    return (meta["name"], spec["plugin"], *addresses, *meta["labels"], *meta["labels"].values())


VMS: Kind[VM] = Kind(
    cls=VM,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "phase": _phase,
        "ready": lambda data: str(data["status"]["ready"]).lower(),
        "plugin": lambda data: data["spec"]["plugin"],
        "node": lambda data: data["status"]["node"],
        "memory_mb": lambda data: data["spec"]["memory_mb"],
        "cpu_cores": lambda data: data["spec"]["cpu_cores"],
        "restarts": lambda data: data["status"]["restarts"],
        "started_at": lambda data: data["status"]["started_at"],
    },
    texts=_texts,
    # A pool's clones are nobody's VMs.
    shows=lambda data: data["spec"]["power"] != "parked",
)
