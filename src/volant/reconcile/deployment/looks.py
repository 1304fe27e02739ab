"""Which deployments have to be looked at because something else changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from volant.core.deployment import Deployment
from volant.core.ids import Uid
from volant.core.node import Node
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Stored


def find_deployments(cache: Cache, change: Change, old: Stored | None) -> Iterator[tuple[Key, Uid]]:
    """The deployment of a VM that changed; all when a node came or went, or takes VMs again."""
    if change.key.kind == VM.kind:
        owner = change.data["meta"].get("owner")
        for stored in cache.by_index("uid", owner) if owner else ():
            if stored.key.kind == Deployment.kind:
                yield stored.key, Uid(owner)
    elif change.key.kind == Node.kind and (old is None or _standing(change.data) != _standing(old.data)):
        for stored in cache.list(Deployment.kind):
            yield stored.key, Uid(stored.data["meta"]["uid"])


def _standing(data: dict[str, Any]) -> tuple[object, ...]:
    conditions = data["status"].get("conditions", ())
    return data["spec"]["unschedulable"], *((one["type"], one["status"]) for one in conditions)
