"""The node's word that it is there: written by its own volantd again and again."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import NotFound, StaleRevision, VolantError
from volant.core.node import BEAT_S, NODE_READY, Node, NodeStatus
from volant.store.contract import Store
from volant.store.records import find_resource, update_of

log = structlog.get_logger()

WRITE_LIMIT_S = 5.0
ATTEMPTS = 5


def with_beat(status: NodeStatus, now: str) -> NodeStatus:
    """``status`` of a node that is heard of now."""
    condition = Condition(type=NODE_READY, status="True", reason="Heard", message="its volantd says so")
    return msgspec.structs.replace(status, heard_at=now, conditions=set_condition(status.conditions, condition, now))


class NodeBeat:
    def __init__(self, store: Store, clock: Clock, node_name: str) -> None:
        self._store = store
        self._clock = clock
        self._name = node_name

    async def run(self) -> None:
        """A task body; runs until cancelled. What cannot be written now is told again next time."""
        while True:
            await self._clock.sleep(BEAT_S)
            try:
                async with asyncio.timeout(WRITE_LIMIT_S):
                    await self.beat()
            except (VolantError, TimeoutError) as error:
                log.warning("beat_failed", error=str(error) or "the store did not answer in time")

    async def beat(self) -> None:
        """Raises what the store does. A node that somebody removed meanwhile stays so until its volantd starts anew."""
        for _ in range(ATTEMPTS):
            node = await find_resource(self._store, Node, "", self._name)
            if node is None:
                return
            status = with_beat(node.status, format_time(self._clock.now()))
            try:
                await self._store.transact([update_of(msgspec.structs.replace(node, status=status))])
            except StaleRevision:
                continue
            except NotFound:
                pass
            return
