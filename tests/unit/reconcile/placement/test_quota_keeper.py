"""What projects use is counted again soon where it could not be, and else now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from volant.core.errors import DiskFull
from volant.core.ids import new_uid
from volant.core.quota import Quota, QuotaSpec, QuotaStatus
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.placement.quota_keeper import QuotaKeeper
from volant.store.cache import Cache
from volant.store.contract import Operation
from volant.store.records import create_of, get_resource
from volant.store.sqlite import open_store


async def test_a_count_that_could_not_be_written_says_so_and_the_next_one_is_right(tmp_path: Path) -> None:
    clock = SimulatedClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        cache = Cache(store, ("Quota",), clock)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cache.run())
            await cache.wait_synced()
            wrong = Quota(meta=Meta(name="small", uid=new_uid()), spec=QuotaSpec(vms=3), status=QuotaStatus(vms=2))
            await cache.wait_revision(await store.transact([create_of(wrong)]))
            keeper, transact = QuotaKeeper(store, cache, clock), store.transact

            async def refuse(operations: Sequence[Operation]) -> int:
                raise DiskFull("no space left")

            store.transact = refuse  # type: ignore[method-assign]  # a disk that is full for a while
            assert not await keeper.recount()
            store.transact = transact  # type: ignore[method-assign]  # as it was
            assert await keeper.recount()
            assert (await get_resource(store, Quota, "default", "small")).status.vms == 0
            following.cancel()
