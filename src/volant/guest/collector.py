"""Brings a workload's log out of the guest before its ring forgets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from volant.core.errors import VolantError
from volant.core.log import LogRecord
from volant.guest.bucket import TokenBucket
from volant.guest.link import AgentLink
from volant.guest.records import LOG_HEAD_BYTES

BYTES_PER_S = 1_048_576
BURST_BYTES = 4_194_304
RETRY_S = 1.0


class LogSink(Protocol):
    """Where the lines of one run go."""

    async def last_seq(self) -> int:
        """The highest sequence number stored of this run, 0 for none."""
        ...

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Store ``records``; a jump in their sequence numbers is a gap that the sink keeps visible."""
        ...


class LogCollector:
    """Follows the log of workload ``main`` over reconnects and restarts of volantd, each line once.

    A guest that writes faster than ``bytes_per_s`` is read no faster: its ring drops the oldest, and the gap shows.
    """

    def __init__(
        self, link: AgentLink, sink: LogSink, *, bytes_per_s: float = BYTES_PER_S, burst_bytes: float = BURST_BYTES
    ) -> None:
        self._link = link
        self._sink = sink
        self._clock = link.clock
        self._budget = TokenBucket(link.clock, rate_per_s=bytes_per_s, burst=burst_bytes)
        self.taken_at = float("-inf")
        """When the last lines were stored, in the clock's monotonic seconds."""
        self.is_idle = True
        """Nothing that has arrived waits to be stored."""
        self.problem = ""
        """What kept it from collecting the last time, "" while it collects."""

    async def run(self) -> None:
        """Task body; ends only by cancellation. A problem of the guest or of the disk is kept in ``problem`` and retried."""
        while True:
            self.is_idle = True
            await self._link.wait_for(lambda state: state.connected and state.workload is not None, None)
            self.is_idle = False
            try:
                await self._collect()
                self.problem = "the guest's agent ended the log"
            except (VolantError, OSError) as error:
                self.problem = str(error)
            await self._clock.sleep(RETRY_S if self._link.state.connected else 0)

    async def _collect(self) -> None:
        after = await self._sink.last_seq()
        async with await self._link.open_logs(after=after, follow=True) as log:
            self.problem = ""
            async for records in log:
                await self._sink.append(records)
                self.taken_at = self._clock.monotonic()
                await self._budget.pay(sum(LOG_HEAD_BYTES + len(record.data) for record in records))
