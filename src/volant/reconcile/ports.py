"""The port keeper: a door for every VM that publishes ports, as VMs come, change and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from volant.core.clock import Clock
from volant.core.errors import HostError
from volant.core.ids import Uid
from volant.core.vm import VM, is_parked
from volant.net.fabric import Fabric
from volant.reconcile.door import Door
from volant.reconcile.guest_way import OpenPort
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Store, Stored
from volant.store.records import read_resource

log = structlog.get_logger()

RESYNC_S = 60.0


class PortKeeper:
    """Listens on the published ports of every VM. Rules that lead past it (net/rules.py) are only a shorter way."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        fabric: Fabric,
        on_listen: Callable[[], None] = lambda: None,
        open_port: OpenPort | None = None,
    ) -> None:
        """``on_listen`` is called when a port was opened, which rules may lead past from now on. ``open_port`` leads to guests
        that the fabric does not."""
        self._open_port = open_port
        self._on_listen = on_listen
        self._store = store
        self._cache = cache
        self._clock = clock
        self._fabric = fabric
        self._doors: dict[Key, tuple[Door, asyncio.Task[None]]] = {}
        self._by_uid: dict[Uid, Door] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """A task body; runs until cancelled, and then nothing is open. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change, kinds=(VM.kind,))
        try:
            await self._cache.wait_synced()
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    while True:
                        self._resync()
                        await self._clock.sleep(RESYNC_S)
                finally:
                    self._group = None
                    for key in list(self._doors):
                        self._close(key)
        finally:
            unsubscribe()

    def last_active(self, uid: Uid) -> float | None:
        """When somebody last came by a published port of this VM, or bytes moved there, on the monotonic clock."""
        door = self._by_uid.get(uid)
        return None if door is None else door.last_active

    def has_port(self, uid: Uid, host_port: int) -> bool:
        """True when connections to ``host_port`` are this VM's, and no other program's."""
        door = self._by_uid.get(uid)
        return door is not None and door.has_port(host_port)

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if change.key.kind == VM.kind:
            self._look(change.key)

    def _resync(self) -> None:
        for key in {stored.key for stored in self._cache.list(VM.kind)} | self._doors.keys():
            self._look(key)

    def _look(self, key: Key) -> None:
        if self._group is None:
            return
        vm = self._find(key)
        held = self._doors.get(key)
        if held is not None and (vm is None or held[0].vm.uid != vm.uid):
            self._close(key)
            held = None
        if vm is None:
            return
        if held is not None:
            held[0].update(vm)
            return
        door = Door(self._store, self._cache, self._clock, self._fabric, vm, self._on_listen, self._open_port)
        self._doors[key] = door, self._group.create_task(door.run())
        self._by_uid[vm.uid] = door

    def _find(self, key: Key) -> VM | None:
        """The VM ``key`` when it publishes ports."""
        stored = self._cache.get(key)
        if stored is None or not stored.data["spec"].get("ports"):
            return None
        try:
            vm = read_resource(VM, stored)
        except HostError as error:
            log.warning("ports_unreadable", name=key.name, error=str(error))
            return None
        return None if is_parked(vm) else vm

    def _close(self, key: Key) -> None:
        door, task = self._doors.pop(key)
        self._by_uid.pop(door.vm.uid, None)
        door.leave()
        task.cancel()
