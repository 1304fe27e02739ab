"""One run of one VM as this host tends it: the process, the channel to its agent, its logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec
import structlog

from volant.core.clock import Clock
from volant.core.errors import VolantError
from volant.guest.collector import LogCollector
from volant.guest.link import AgentLink
from volant.guest.pace import PingPace
from volant.guest.state import AgentState
from volant.hypervisor.driver import Ending, Instance
from volant.node.unit import Identity
from volant.observe.logstore import LogStore

log = structlog.get_logger()

BUG_PAUSE_S = 1.0
CLOCK_RETRY_S = 0.2
LAST_WORDS_S = 2.0
QUIET_S = 0.1


class HostHealth(msgspec.Struct, frozen=True):
    """``failures`` in a row; ``message`` is the reason of the last; ``due_at``, monotonic, is when to ask again."""

    state: Literal["unknown", "healthy", "unhealthy"] = "unknown"
    message: str = ""
    failures: int = 0
    due_at: float = 0.0


class Run:
    """Created when a VM process was launched or adopted; tended from ``start`` until the process ends.

    While it is held nobody talks to its guest: it is paused, or must not know yet that there is a host.
    """

    def __init__(
        self,
        instance: Instance,
        secret: bytes,
        logs: LogStore,
        clock: Clock,
        on_change: Callable[[], None],
        *,
        client: str,
        former: bytes,
        identity: Identity | None = None,
        held: bool = False,
        pace: PingPace | None = None,
    ) -> None:
        self.instance = instance
        self.ending: Ending | None = None
        self.stop_asked_at: datetime | None = None
        self.stop_delivered = False
        self.paused = False
        """The guest's processors stand still, on our account."""
        self.identity = identity
        """Who the guest was told to be."""
        self.clock_due = False
        """It stood still, so that its clock is behind until the agent has set it."""
        self.busy = ""
        """What is being done with it that nobody else may disturb; empty for nothing."""
        self.host_health: HostHealth | None = None
        """What this host found when it asked a workload that no agent looks after; None until it has."""
        self.tended_since = clock.monotonic()
        self.marks: dict[str, float] = {}
        """Monotonic times at which things were first seen: ``launched``, ``hello``, ``configured``, ``ready``."""
        self._clock = clock
        self._on_change = on_change
        self._connected_at: float | None = None
        self._down_since = self.tended_since
        self._running: tuple[int | None, float] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._talking: asyncio.Task[None] | None = None
        self._may_talk = asyncio.Event()
        if not held:
            self._may_talk.set()
        self.link = AgentLink(
            instance.connect_agent, secret, on_change=self._on_agent, clock=clock, client=client, former=former, pace=pace
        )
        self._collector = LogCollector(self.link, logs.begin_run(instance.machine.run_id))

    @property
    def agent(self) -> AgentState:
        return self.link.state

    @property
    def agent_down_s(self) -> float | None:
        """Seconds since the agent was last connected (or since tending began); None while it is connected."""
        return None if self.agent.connected else self._clock.monotonic() - self._down_since

    @property
    def workload_running_s(self) -> float:
        """Seconds for which the workload has been seen running as one and the same process; 0 while it does not run."""
        return 0.0 if self._running is None else self._clock.monotonic() - self._running[1]

    @property
    def tended_s(self) -> float:
        """Seconds for which this volantd has tended it."""
        return self._clock.monotonic() - self.tended_since

    @property
    def held(self) -> bool:
        return not self._may_talk.is_set()

    async def hold(self) -> None:
        """Stop talking to the guest; returns once the connection is closed. What it said last stays known."""
        self._may_talk.clear()
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.wait({self._talking})
        self.link.note_down("nobody talks to it")
        self._down_since = self._clock.monotonic()

    def let_go(self) -> None:
        """Whoever had it in hand has it no longer; a guest that does not stand still is talked to again."""
        self.busy = ""
        if not self.paused:
            self.release()
        self._on_change()

    def release(self) -> None:
        """Talk to the guest again."""
        self._down_since = self._clock.monotonic()
        self._may_talk.set()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Tend it in ``group`` until the VM process ends."""
        self._tending = group.create_task(self._tend(), name=f"tend {self.instance.machine.name}")

    async def finish(self) -> None:
        """Return once nothing of ours works on an ended run any more, so that its files can go."""
        if self._tending is not None:
            await asyncio.wait({self._tending})
        await self.instance.close()

    async def _tend(self) -> None:
        while self.ending is None:
            try:
                await self._tend_once()
            except* Exception as group:  # the edge: what goes wrong with one VM must not end the others
                log.exception("tend_bug", name=self.instance.machine.name, exc_info=group)
                _raise_if_cancelled()  # a cancellation that came as a child failed is not lost
                await self._clock.sleep(BUG_PAUSE_S)
        self._on_change()

    async def _tend_once(self) -> None:
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(self._talk_when_allowed())
            ending = await self.instance.wait_ended()
            await self._take_last_words()
            self.ending = ending
            tending.cancel()

    async def _take_last_words(self) -> None:
        """Let the collector store what the guest wrote before it ended, which is on its way to us.

        The connection of a process that has gone is closed behind it. One that only stopped leaves it open, and there is nothing
        more when nothing has come for a while.
        """
        began = self._clock.monotonic()
        while (now := self._clock.monotonic()) - began < LAST_WORDS_S:
            is_quiet = now - max(self._collector.taken_at, began) >= QUIET_S
            if is_quiet or (not self.agent.connected and self._collector.is_idle):
                return
            await self._clock.sleep(QUIET_S / 10)

    async def _talk_when_allowed(self) -> None:
        if not self.instance.machine.has_agent:
            return
        while True:
            await self._may_talk.wait()
            async with asyncio.TaskGroup() as group:
                self._talking = group.create_task(self._talk())

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.link.run())
            group.create_task(self._collector.run())
            group.create_task(self._set_clock())

    async def _set_clock(self) -> None:
        """Once for a guest that stood still; one that waits to be configured gets the time with its configuration."""
        while self.clock_due:
            state = await self.link.wait_for(lambda state: state.connected and state.hello is not None, None)
            try:
                if state.hello is not None and state.hello.state != "waiting":
                    await self.link.set_clock(int(self._clock.now().timestamp() * 1e9))
            except VolantError as error:
                log.warning("clock_not_set", name=self.instance.machine.name, error=str(error))
                await self._clock.sleep(CLOCK_RETRY_S)
                continue
            self.clock_due = False
            self._on_change()

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, self._clock.monotonic())

    def _on_agent(self, state: AgentState) -> None:
        if state.connected and state.hello is not None:
            self.mark("hello")
        if not state.connected and self._connected_at is not None:
            self._down_since = self._clock.monotonic()
            self._connected_at = None
        elif state.connected:
            self._connected_at = self._clock.monotonic()
        if state.workload is None or state.workload.state != "running":
            self._running = None
        elif self._running is None or self._running[0] != state.workload.pid:
            self._running = (state.workload.pid, self._clock.monotonic())
        self._on_change()


def _raise_if_cancelled() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
