"""What the store ought to hold: every transaction that it committed, in order, as its own change log tells them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from volant.store.contract import Batch, Key


class Broken(AssertionError):
    """A promise was not kept."""


class Registry:
    """A copy that survives every volantd."""

    def __init__(self) -> None:
        self.records: dict[Key, dict[str, Any]] = {}
        self.by_owner: dict[str, dict[Key, None]] = defaultdict(dict)
        """Keys of what goes with a uid: claims by their owner, and VMs and revisions by theirs."""
        self.by_uid: dict[str, Key] = {}
        self.revision = 0

    def get(self, kind: str, name: str, project: str = "default") -> dict[str, Any] | None:
        return self.records.get(Key(kind, project, name))

    def of_kind(self, kind: str) -> list[tuple[Key, dict[str, Any]]]:
        return [(key, data) for key, data in sorted(self.records.items()) if key.kind == kind]

    def owned(self, uid: str, kind: str) -> list[dict[str, Any]]:
        return [self.records[key] for key in sorted(self.by_owner.get(uid, {})) if key.kind == kind]

    def take_in(self, batch: Batch) -> list[tuple[Key, dict[str, Any] | None, dict[str, Any] | None]]:
        """Each record that changed, as it was and as it is."""
        if batch.revision <= self.revision:
            raise Broken(f"revision {batch.revision} was committed twice: {self.revision} has been")
        self.revision = batch.revision
        changed = []
        for change in batch.changes:
            old = self.records.pop(change.key, None)
            if old is not None:
                self._forget(change.key, old)
            new = change.data if change.type == "put" else None
            if new is not None:
                self.records[change.key] = new
                if "uid" in new["meta"]:
                    self.by_uid[new["meta"]["uid"]] = change.key
                self.by_owner[_owner(change.key, new)][change.key] = None
            changed.append((change.key, old, new))
        return changed

    def _forget(self, key: Key, data: dict[str, Any]) -> None:
        owned = self.by_owner[_owner(key, data)]
        owned.pop(key, None)
        if not owned:
            del self.by_owner[_owner(key, data)]
        uid = data["meta"].get("uid")
        if self.by_uid.get(uid) == key:
            del self.by_uid[uid]


def _owner(key: Key, data: dict[str, Any]) -> str:
    return str((data["spec"]["owner_uid"] if key.kind == "Claim" else data["meta"].get("owner")) or "")
