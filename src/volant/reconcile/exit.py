"""Ending every VM in an orderly way because volantd ends, without forgetting that they are wanted."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.errors import GuestUnreachable, NotFound, StaleRevision
from volant.core.vm import VM, EndRecord
from volant.node.local import LocalNode
from volant.node.run import Run
from volant.reconcile.vm_decision import STOP_MARGIN_S
from volant.reconcile.vm_status import project_status
from volant.store.cache import Cache
from volant.store.contract import Key, Store
from volant.store.records import find_resource, update_of

log = structlog.get_logger()


async def stop_all(store: Store, cache: Cache, clock: Clock, node: LocalNode) -> None:
    """Ask every guest to switch itself off, end those that do not, and record it as asked for.

    What is wanted stays as it is, so the next volantd starts them again. The controllers must not run any more.
    """
    async with asyncio.TaskGroup() as group:
        for stored in cache.list(VM.kind):
            found = await node.find(stored.data["meta"]["uid"])
            if isinstance(found, Run):
                group.create_task(_stop(store, clock, node, stored.key, found))


async def _stop(store: Store, clock: Clock, node: LocalNode, key: Key, run: Run) -> None:
    vm = await find_resource(store, VM, key.project, key.name)
    grace_s = 10 if vm is None else vm.spec.grace_s
    how = "ended by force"
    try:
        async with asyncio.timeout(grace_s + STOP_MARGIN_S):
            await run.link.shutdown(grace_s)
            await run.instance.wait_ended()
            how = "the guest switched itself off"
    except (GuestUnreachable, TimeoutError) as error:
        log.warning("vm_killed", name=key.name, reason=str(error) or "it did not switch itself off in time")
    await node.destroy(run.instance.machine.uid)
    if vm is None:
        return
    now = clock.now()
    end = EndRecord(
        run_id=vm.status.run_id,
        kind="powered_off",
        message=f"{how}, because volantd ended",
        at=format_time(now),
        asked=True,
        clean=True,
    )
    ended = msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, last_end=end))
    try:
        await store.transact([update_of(msgspec.structs.replace(ended, status=project_status(ended, None, now)))])
    except (StaleRevision, NotFound) as error:
        log.warning("end_not_recorded", name=key.name, error=str(error))
