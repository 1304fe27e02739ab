"""The quota keeper: counts now and then what projects really use, whatever was written down of it. It runs on the leader."""

from __future__ import annotations

import asyncio

import structlog

from volant.core.clock import Clock
from volant.core.errors import StaleRevision, VolantError
from volant.core.quota import Quota
from volant.store.cache import Cache
from volant.store.contract import Change, Store, Stored
from volant.store.quotas import QuotaLedger

log = structlog.get_logger()

PERIOD_S = 600.0
AGAIN_S = 10.0
"""When something could not be counted: until it is, more may be given than there is."""

SOON_S = 2.0
"""After a quota is made: what was being made when it came did not know of it."""

ATTEMPTS = 10


class QuotaKeeper:
    def __init__(self, store: Store, cache: Cache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._ledger = QuotaLedger(store)
        self._made = asyncio.Event()

    async def run(self) -> None:
        """A task body; runs until cancelled. All are counted at its start and every PERIOD_S, new ones soon."""
        unsubscribe = self._cache.subscribe(self._on_change, kinds=(Quota.kind,))
        try:
            while True:
                self._made.clear()
                await self._rest(PERIOD_S if await self.recount() else AGAIN_S)
        finally:
            unsubscribe()

    async def recount(self) -> bool:
        """Every project that has a quota; False when one kept changing, or could not be counted now."""
        is_done = True
        for project in sorted({stored.key.project for stored in self._cache.list(Quota.kind)}):
            for _ in range(ATTEMPTS):
                try:
                    wrong = await self._ledger.recount(project)
                except StaleRevision:
                    continue
                except VolantError as error:
                    log.warning("quota_not_counted", project=project, error=str(error))
                    is_done = False
                    break
                for quota in wrong:
                    log.info("quota_recounted", project=project, name=quota.name)
                break
            else:
                is_done = False
        return is_done

    async def _rest(self, period_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(period_s))
        made = asyncio.ensure_future(self._made.wait())
        try:
            await asyncio.wait((sleeping, made), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            made.cancel()
        if self._made.is_set():
            await self._clock.sleep(SOON_S)

    def _on_change(self, change: Change, _old: Stored | None) -> None:
        if change.key.kind == Quota.kind and change.created:
            self._made.set()
