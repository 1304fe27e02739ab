"""Who leads: one node of those that share a store holds a lease, and does what only one may do while it does."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from volant.core.clock import Clock, format_time
from volant.core.errors import Conflict, VolantError
from volant.core.leader import LEADER, LEADER_KIND
from volant.store.contract import Create, Key, Operation, RequireLease, Store, Update

log = structlog.get_logger()

LEASE_S = 12.0
RENEW_S = 4.0
MARGIN_S = 2.0
"""A leader takes its lease for ended so long before it can be another's: its work has time to stop, and clocks may differ."""
ASK_AGAIN_S = 2.5
"""Whoever does not lead asks so often. With LEASE_S: the next one leads within 15 s of the last renewal of the one before."""
TRY_AGAIN_S = 1.0
STEP_LIMIT_S = 3.0

RECORD = Key(LEADER_KIND, "", LEADER)


class Leadership:
    """``lead`` is what a leader does: started whenever this node takes the lead, cancelled when it loses it.

    ``holder`` is the node's name: a volantd that comes back after a crash may go on at once with what is its node's. That two
    volantds never have one name at a time is for whoever names them, and a lock on the data directory.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        holder: str,
        lead: Callable[[], Coroutine[Any, Any, None]],
        *,
        random_source: random.Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._lead = lead
        self._random = random_source or random.Random()  # noqa: S311  # spreads attempts, keeps no secret
        self._until: float | None = None

    @property
    def held(self) -> bool:
        """True while nobody else can lead, by this host's monotonic clock."""
        return self._until is not None and self._clock.monotonic() < self._until

    async def run(self) -> None:
        """A task body; runs until cancelled, and then gives the lease back so that the next one leads at once."""
        try:
            while True:
                await self._take()
                await self._write_down()
                log.info("leading", node=self._holder)
                await self._lead_while_held()
                log.warning("lead_lost", node=self._holder)
        finally:
            await self._give_back()

    async def _take(self) -> None:
        while True:
            try:
                await self._renew()
            except Conflict:
                wait_s = ASK_AGAIN_S * (0.8 + 0.2 * self._random.random())
            except (VolantError, TimeoutError) as error:
                log.warning("lease_unasked", error=str(error) or "it took too long")
                wait_s = TRY_AGAIN_S
            else:
                return
            await self._clock.sleep(wait_s)

    async def _renew(self) -> None:
        """Raises Conflict when it is somebody else's."""
        # Counted from before the question: the keeper's time begins later, if anything.
        asked = self._clock.monotonic()
        async with asyncio.timeout(STEP_LIMIT_S):
            await self._store.grant_lease(LEADER, self._holder, LEASE_S)
        self._until = asked + LEASE_S - MARGIN_S

    async def _lead_while_held(self) -> None:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._lead())
            keeping = group.create_task(self._keep())
            try:
                await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                working.cancel()
                keeping.cancel()

    async def _keep(self) -> None:
        """Return once the lease is lost, or can be."""
        wait_s = RENEW_S
        while self.held:
            assert self._until is not None
            await self._clock.sleep(min(wait_s, self._until - self._clock.monotonic()))
            if self._until <= self._clock.monotonic():
                break
            try:
                await self._renew()
            except Conflict as error:
                log.warning("lease_lost", error=str(error))
                break
            except (VolantError, TimeoutError) as error:
                log.warning("lease_not_renewed", error=str(error) or "it took too long")
                wait_s = TRY_AGAIN_S
            else:
                wait_s = RENEW_S * (0.9 + 0.1 * self._random.random())
        self._until = None

    async def _write_down(self) -> None:
        """Say in the store who leads, for people to read; nothing is decided by it."""
        data = {"meta": {"name": LEADER}, "spec": {"node": self._holder, "since": format_time(self._clock.now())}}
        try:
            async with asyncio.timeout(STEP_LIMIT_S):
                old = await self._store.get(RECORD)
                if old is not None and old.data["spec"]["node"] == self._holder:
                    return
                write: Operation = Create(RECORD, data) if old is None else Update(RECORD, data, old.revision)
                await self._store.transact([RequireLease(LEADER, self._holder), write])
        except (VolantError, TimeoutError) as error:
            log.warning("leader_not_written_down", error=str(error) or "it took too long")

    async def _give_back(self) -> None:
        was_held, self._until = self._until is not None, None
        if not was_held:
            return
        with contextlib.suppress(VolantError, TimeoutError):
            async with asyncio.timeout(STEP_LIMIT_S):
                await self._store.release_lease(LEADER, self._holder)
