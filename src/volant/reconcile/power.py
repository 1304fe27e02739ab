"""Changes of a VM's power that volantd makes by itself: a connection wakes it, silence sends it to sleep."""

from __future__ import annotations

import asyncio

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, NotFound, StaleRevision
from volant.core.ids import Uid
from volant.core.vm import VM, Power
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Key, Operation, Store
from volant.store.records import find_resource, update_of

SEEN_LIMIT_S = 5.0


async def change_power(
    store: Store, key: Key, uid: Uid, *, expected: Power, wanted: Power, note: Note | None, cache: Cache, clock: Clock
) -> bool:
    """Ask for ``wanted`` where ``expected`` is asked for now, and tell ``note``; False when that VM is gone or asked otherwise.

    Once it is True the cache has seen the change too, unless it lags by more than SEEN_LIMIT_S.
    """
    while True:
        vm = await find_resource(store, VM, key.project, key.name)
        if vm is None or vm.uid != uid or vm.deleting or vm.spec.power != expected:
            return False
        meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
        spec = msgspec.structs.replace(vm.spec, power=wanted)
        operations: list[Operation] = [update_of(msgspec.structs.replace(vm, meta=meta, spec=spec))]
        if note is not None:
            operations.append(event_operation(cache, vm, note, format_time(clock.now())))
        try:
            revision = await store.transact(operations)
        except StaleRevision:
            continue
        except (AlreadyExists, NotFound):
            # The cache had not seen that this event came, or that it was swept; the change matters more than its count.
            if note is None:
                return False
            note = None
            continue
        try:
            async with asyncio.timeout(SEEN_LIMIT_S):
                await cache.wait_revision(revision)
        except TimeoutError:
            pass  # it is written all the same
        return True
