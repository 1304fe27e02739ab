"""VMs that found no place: who looks again when something was freed, and when they look by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from volant.core.node import Node
from volant.core.vm import VM
from volant.reconcile.placement.account import holds_room
from volant.store.contract import Change, Key, Stored

WOKEN_AT_ONCE = 64
"""So many look again when something was freed, those that have waited longest first. The others come round by themselves."""

FREED_S = 0.05
"""Many things that are freed together are one look."""

RETRY_S = 10.0
RETRIES_A_SECOND = 50
"""However many wait, so many look again by themselves in a second."""


class WaitingRoom:
    """``look`` has a VM looked at again, after so many seconds."""

    def __init__(self, look: Callable[[Key, float], None]) -> None:
        self._look = look
        self._waiting: dict[Key, None] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def enter(self, key: Key) -> float:
        """``key`` waits; returns the seconds after which it looks again by itself."""
        self._waiting.setdefault(key)
        return max(RETRY_S, len(self._waiting) / RETRIES_A_SECOND)

    def leave(self, key: Key) -> None:
        self._waiting.pop(key, None)

    def on_change(self, change: Change, old: Stored | None) -> None:
        """A cache's subscriber."""
        if change.key.kind == VM.kind and change.type == "delete":
            self.leave(change.key)
        if self._waiting and _frees(change, old):
            for key in list(self._waiting)[:WOKEN_AT_ONCE]:
                self._look(key, FREED_S)


def _frees(change: Change, old: Stored | None) -> bool:
    """Whether there may be a place now that was none before."""
    kind = change.key.kind
    if kind == Node.kind:
        return old is None or change.type == "delete" or _judged(change.data) != _judged(old.data)
    if kind == "Claim":
        return change.type == "delete" and change.data["spec"]["thing"] in ("slot", "device")
    if kind != VM.kind or old is None or old.data["status"]["slot"] is None:
        return False
    if change.type == "delete":
        return True
    before, after = old.data, change.data
    shrunk = any((after["spec"][size] or 0) < (before["spec"][size] or 0) for size in ("cpu_cores", "memory_mb"))
    moved = before["meta"]["labels"] != after["meta"]["labels"] or before["meta"]["deleting_at"] != after["meta"]["deleting_at"]
    return shrunk or moved or (holds_room(before["status"]) and not holds_room(after["status"]))


def _judged(data: Mapping[str, Any]) -> object:
    """What of a node decides whether something fits: all but that it was heard of."""
    status = {name: value for name, value in data["status"].items() if name not in ("heard_at", "conditions")}
    conditions = [(one["type"], one["status"]) for one in data["status"]["conditions"]]
    return data["spec"], data["meta"]["labels"], data["meta"]["deleting_at"], status, conditions
