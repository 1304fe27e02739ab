"""The idle watch: a VM that nobody has talked to for as long as its spec says is sent to sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from volant.core.cards import card_tap
from volant.core.clock import Clock
from volant.core.errors import VolantError
from volant.core.ids import Uid
from volant.core.vm import VM, Power
from volant.net.fabric import Fabric
from volant.reconcile.pause import wait_change
from volant.reconcile.power import change_power
from volant.reconcile.recorder import Note
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Store, Stored

log = structlog.get_logger()

SHORTEST_PERIOD_S = 0.25
LONGEST_PERIOD_S = 15.0
LOOKS_A_WAIT = 4
"""How often it is looked within the time of the most impatient VM."""

STEP_LIMIT_S = 15.0


class _Watched(msgspec.Struct):
    """``quiet_since`` is on the monotonic clock; ``packets`` is ``None`` until the tap was first read."""

    key: Key
    limit_s: int
    quiet_since: float
    packets: int | None = None
    taps: tuple[str, ...] = ()


class IdleWatch:
    """The time counts from when a VM became ready, or was last heard of, while this volantd looked."""

    def __init__(
        self, store: Store, cache: Cache, clock: Clock, fabric: Fabric, last_active: Callable[[Uid], float | None]
    ) -> None:
        """``last_active`` tells when something was last carried to or from a VM by volantd itself (PortKeeper)."""
        self._store = store
        self._cache = cache
        self._clock = clock
        self._fabric = fabric
        self._last_active = last_active
        self._watched: dict[Uid, _Watched] = {}
        self._more = asyncio.Event()

    async def run(self) -> None:
        """A task body; runs until cancelled. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change, kinds=(VM.kind,))
        try:
            await self._cache.wait_synced()
            for stored in self._cache.list(VM.kind):
                self._take_in(stored.key, stored.data)
            while True:
                self._more.clear()
                if not self._watched:
                    await self._more.wait()
                    continue
                await self._look()
                await wait_change(self._more, self._clock, self._period_s())
        finally:
            unsubscribe()

    def _period_s(self) -> float:
        shortest = min((each.limit_s for each in self._watched.values()), default=LONGEST_PERIOD_S)
        return min(max(shortest / LOOKS_A_WAIT, SHORTEST_PERIOD_S), LONGEST_PERIOD_S)

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if change.key.kind != VM.kind:
            return
        if change.type == "delete":
            self._watched.pop(Uid(change.data["meta"]["uid"]), None)
            return
        if old is not None and old.data["meta"]["uid"] != change.data["meta"]["uid"]:
            self._watched.pop(Uid(old.data["meta"]["uid"]), None)
        self._take_in(change.key, change.data)

    def _take_in(self, key: Key, data: dict[str, Any]) -> None:
        uid, limit_s = Uid(data["meta"]["uid"]), _read_limit(data)
        if limit_s == 0:
            self._watched.pop(uid, None)
            return
        watched = self._watched.get(uid)
        if watched is None:
            self._watched[uid] = _Watched(key, limit_s, self._clock.monotonic(), taps=_read_taps(uid, data))
            self._more.set()
        elif watched.limit_s != limit_s:
            watched.limit_s = limit_s
            self._more.set()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(STEP_LIMIT_S):
                traffic = await self._fabric.read_traffic()
        except (VolantError, TimeoutError) as error:
            log.warning("traffic_unread", error=str(error) or "it took too long")
            return
        now = self._clock.monotonic()
        for uid, watched in list(self._watched.items()):
            # One without a card is heard of by its published ports alone.
            counts = [traffic.get(tap) for tap in watched.taps]
            packets = None if None in counts else sum(count for count in counts if count is not None)
            if packets is None or (watched.packets is not None and packets != watched.packets):
                watched.quiet_since = now
            watched.packets = packets
            watched.quiet_since = max(watched.quiet_since, self._last_active(uid) or 0.0)
            if now - watched.quiet_since >= watched.limit_s and self._watched.get(uid) is watched:
                await self._suspend(uid, watched)

    async def _suspend(self, uid: Uid, watched: _Watched) -> None:
        decided = self._clock.monotonic()
        words = f"no traffic for {watched.limit_s} s; it is being suspended"
        if not await self._change(uid, watched, "running", "suspended", Note("Normal", "Idle", words)):
            return
        log.info("vm_idle", name=watched.key.name, quiet_s=watched.limit_s)
        # What came while this was written was passed on to a guest that is about to stop, and nobody would wake it for that.
        if (self._last_active(uid) or 0.0) > decided:
            words = "somebody connected meanwhile; it goes on"
            await self._change(uid, watched, "suspended", "running", Note("Normal", "Waking", words))

    async def _change(self, uid: Uid, watched: _Watched, expected: Power, wanted: Power, note: Note) -> bool:
        try:
            async with asyncio.timeout(STEP_LIMIT_S):
                return await change_power(
                    self._store, watched.key, uid,
                    expected=expected, wanted=wanted, note=note, cache=self._cache, clock=self._clock,
                )  # fmt: skip
        except (VolantError, TimeoutError) as error:
            log.warning("power_unchanged", name=watched.key.name, wanted=wanted, error=str(error) or "it took too long")
            return False


def _read_taps(uid: Uid, data: dict[str, Any]) -> tuple[str, ...]:
    return tuple(card_tap(uid, index) for index in range(len(data["status"]["addresses"])))


def _read_limit(data: dict[str, Any]) -> int:
    """Seconds of silence after which the VM of this record is to be suspended; 0 when it is not watched now."""
    spec, status = data["spec"], data["status"]
    if data["meta"].get("deleting_at") or spec["power"] != "running" or not status["ready"]:
        return 0
    return int(spec.get("auto_suspend_s") or 0)
