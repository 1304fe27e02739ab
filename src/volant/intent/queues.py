"""What waits in this volantd's controllers, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from volant.core.errors import NotFound
from volant.core.leader import LEADER, LEADER_KIND, LeaderStatus
from volant.core.queue import Queue, QueueDetail
from volant.store.contract import Key, Store

KEYS_TOLD = 200
KEYS_MAX = 10_000


class QueueSource(Protocol):
    """A controller's engine, as far as it can be looked at."""

    @property
    def name(self) -> str: ...

    def describe(self) -> Queue: ...

    def describe_keys(self, limit: int) -> QueueDetail: ...


class QueueIntent:
    """``sources`` are the engines of this volantd; ``leads`` is whether it leads now."""

    def __init__(self, store: Store, sources: Callable[[], Sequence[QueueSource]], leads: Callable[[], bool]) -> None:
        self._store = store
        self._sources = sources
        self._leads = leads

    def list(self) -> list[Queue]:
        """One for each controller, by name."""
        return [source.describe() for source in sorted(self._sources(), key=lambda source: source.name)]

    def get(self, name: str, limit: int = KEYS_TOLD) -> QueueDetail:
        """With at most ``limit`` keys. Raises NotFound."""
        for source in self._sources():
            if source.name == name:
                return source.describe_keys(limit)
        names = ", ".join(sorted(source.name for source in self._sources()))
        raise NotFound(f"there is no controller named {name[:80]!r}", hint=f"there are {names}")

    async def leader(self) -> LeaderStatus:
        here = self._leads()
        stored = await self._store.get(Key(LEADER_KIND, "", LEADER))
        if stored is None:
            return LeaderStatus(here=here)
        return LeaderStatus(node=stored.data["spec"]["node"], since=stored.data["spec"]["since"], here=here)
