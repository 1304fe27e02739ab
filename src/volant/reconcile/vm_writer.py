"""Writing down what became of a VM, with its events, in one transaction."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, NotFound
from volant.core.vm import VM, VMStatus
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Operation, Store
from volant.store.records import update_of


class VMWriter:
    def __init__(self, store: Store, cache: Cache, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock

    @property
    def now(self) -> str:
        return format_time(self._clock.now())

    async def save(self, vm: VM, status: VMStatus, *notes: Note, force: bool = False) -> VM:
        """``vm`` with ``status``, written unless nothing changed; ``force`` for a status that is ``vm``'s own already.

        Raises:
            StaleRevision: somebody else wrote first.
        """
        if status == vm.status and not notes and not force:
            return vm
        changed = msgspec.structs.replace(vm, status=status)
        now = self.now
        operations: list[Operation] = [update_of(changed)]
        operations += [event_operation(self._cache, vm, note, now) for note in notes]
        try:
            revision = await self._store.transact(operations)
        except (AlreadyExists, NotFound):
            # The cache had not seen that this event came, or that it was swept; the status matters more than its count.
            revision = await self._store.transact(operations[:1])
        return msgspec.structs.replace(changed, revision=revision)
