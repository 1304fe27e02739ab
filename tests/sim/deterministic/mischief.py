"""What happens to a host and its guests by itself: crashes, silence, lies, clocks that jump."""

from __future__ import annotations

import asyncio
import random

from volant.hypervisor.simulated_host import SimulatedProcess

from .world import FOREIGN_UID, World

LIES = ("garbage", "lying_length", "opens_streams")
"""Ways to break the protocol, each of which ends the connection that it is told on."""

KINDS = (
    "busy",
    "crash",
    "crash_workload",
    "cut_off",
    "fall_silent",
    "flap",
    "jump",
    "kill",
    "lie",
    "power_off",
    "stop",
    "usurp",
)

PAUSES_S = (0.05, 0.5, 3.0, 15.0)
CLOCK_JUMPS_S = (-3600.0, -30.0, -1.0, 1.0, 30.0, 3600.0)


class Mischief:
    """A seed has some kinds of it and not others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = random.Random(f"{world.source.random()} mischief")
        self.counts: dict[str, int] = {}
        self.kinds = [name for name in KINDS if self.source.random() < 0.5]

    async def run(self) -> None:
        """A task body; runs until cancelled."""
        while self.kinds:
            await asyncio.sleep(self.source.choice(PAUSES_S) * self.source.random())
            name = self.source.choice(self.kinds)
            before = self.world.trace.length
            await getattr(self, f"_{name}")()
            if self.world.trace.length > before:
                self.counts[name] = self.counts.get(name, 0) + 1

    def end(self) -> None:
        """Everybody is honest and answers again."""
        for process in self._processes():
            guest = self.world.guest_of(process)
            if guest is not None:
                guest.use.busy_cores = 0.0
            if guest is not None and guest.misbehaviour:
                guest.misbehaviour = ""
            if guest is not None and any(notice.get("state") == "unhealthy" for notice in guest.notices()):
                guest.flood_notice()

    def _processes(self) -> list[SimulatedProcess]:
        running = self.world.host.running
        return [process for uid, process in running.items() if uid != FOREIGN_UID]

    def _pick(self) -> SimulatedProcess | None:
        processes = [process for process in self._processes() if process.ending is None]
        return self.source.choice(processes) if processes else None

    def _note(self, what: str, process: SimulatedProcess) -> None:
        self.world.trace.add(f"mischief: {process.machine.name} {what}")

    async def _crash(self) -> None:
        process = self._pick()
        if process is not None:
            self._note("crashes", process)
            self.world.host.crash(process.machine.uid, signal=11)

    async def _power_off(self) -> None:
        process = self._pick()
        if process is not None:
            self._note("powers off", process)
            self.world.host.power_off(process.machine.uid)

    async def _crash_workload(self) -> None:
        process = self._pick()
        guest = None if process is None else self.world.guest_of(process)
        if process is None or guest is None or guest.state != "configured" or guest.workload is None:
            return
        if guest.workload_end is None:
            self._note("has a workload that crashes", process)
            guest.crash_workload()

    async def _misbehave(self, kind: str) -> None:
        process = self._pick()
        guest = None if process is None else self.world.guest_of(process)
        if process is None or guest is None:
            return
        self._note(f"misbehaves: {kind}", process)
        guest.misbehaviour = kind  # type: ignore[assignment]  # one of its kinds
        if self.source.random() < 0.7:
            self.world.loop.call_later(self.source.random() * 20.0, lambda: setattr(guest, "misbehaviour", ""))

    async def _fall_silent(self) -> None:
        await self._misbehave("silent")

    async def _lie(self) -> None:
        await self._misbehave(self.source.choice(LIES))

    async def _cut_off(self) -> None:
        process = self._pick()
        if process is not None:
            self._note("ends its connections", process)
            for task in process.serving:
                task.cancel()

    async def _flap(self) -> None:
        process = self._pick()
        guest = None if process is None else self.world.guest_of(process)
        if process is not None and guest is not None and guest.state == "configured":
            self._note("changes its mind about its health twice", process)
            guest.flood_notice()
            self.world.loop.call_later(self.source.random() * 5.0, guest.flood_notice)

    async def _busy(self) -> None:
        process = self._pick()
        guest = None if process is None else self.world.guest_of(process)
        if process is not None and guest is not None:
            cores = self.source.choice((0.0, 0.3, 0.7, 1.0))
            self._note(f"keeps {cores:g} cores busy", process)
            guest.use.busy_cores = cores

    async def _jump(self) -> None:
        jump_s = self.source.choice(CLOCK_JUMPS_S)
        self.world.trace.add(f"mischief: the wall clock jumps by {jump_s:g} s")
        self.world.clock.wall_offset_s += jump_s

    async def _kill(self) -> None:
        if self.source.random() < 0.2:
            self.world.trace.add("mischief: somebody kills volantd")
            self.world.kill_soon("mischief")

    async def _usurp(self) -> None:
        if self.source.random() < 0.2:
            await self.world.usurp(self.source.choice((1.0, 5.0, 20.0)))

    async def _stop(self) -> None:
        if self.source.random() < 0.1:
            await self.world.stop_volantd()
