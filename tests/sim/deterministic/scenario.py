"""One seed's story: a host comes up, people ask, things break; then nothing breaks any more and everything has to come true."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .deploying import Deploying
from .limiting import Limiting
from .loop import SimulatedLoop
from .mischief import Mischief
from .registry import Broken
from .user import User
from .vms import Machines
from .working import Working
from .world import FOREIGN_UID, World

TROUBLE_S = 120.0
"""How long things break."""

CONVERGE_S = 1800.0
"""Within so much simulated time after the last fault everything has to be as it was asked for."""

LOOK_S = 5.0
LAST_ANSWERS_S = 60.0
"""What was asked for in the last moment of trouble is done by then."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    failure: str
    digest: str
    length: int
    tail: tuple[str, ...]
    simulated_s: float
    lives: int
    asked: int
    acknowledged: int
    faults: dict[str, int]
    revision: int
    operations: dict[str, int]
    """How often each was acknowledged."""
    mischief: dict[str, int]


Plant = Callable[[World], None]


class Scenario:
    def __init__(
        self, loop: SimulatedLoop, root: Path, seed: int, *, echo: Callable[[str], None] | None, plant: Plant | None
    ) -> None:
        self.world = World(loop, root, seed, echo=echo)
        self.user = User(self.world)
        self.machines = Machines(self.user)
        self.deploying = Deploying(self.user)
        self.working = Working(self.user)
        self.limiting = Limiting(self.user)
        self.parts = (self.deploying, self.working, self.machines, self.limiting)
        self.mischief = Mischief(self.world)
        if plant is not None:
            plant(self.world)

    async def run(self) -> None:
        """Raises Broken, or what broke."""
        world = self.world
        try:
            await world.prepare()
            world.start()
            story = asyncio.create_task(self._tell())
            while not story.done() and world.failure is None:
                await asyncio.wait((story,), timeout=LOOK_S)
            if world.failure is not None:
                story.cancel()
                raise world.failure
            await story
            if world.loop.defects:
                raise Broken(f"raised where nobody took it: {world.loop.defects[0]}")
        finally:
            await world.close()

    def note_bug(self, told: str) -> None:
        """volantd survived an error of its own, and said so in its log."""
        self.world.fail(Broken(f"an error of volantd's own: {told}"))

    async def _tell(self) -> None:
        world = self.world
        manifest = build_manifest(world.digest)
        await self.user.insist("POST", "/api/v1/plugins", manifest, good=(409,))
        world.faults.on = True
        mischief = asyncio.create_task(self.mischief.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TROUBLE_S), asyncio.TaskGroup() as group:
                for part in self.parts:
                    group.create_task(part.run())
        mischief.cancel()
        world.faults.on = False
        self.mischief.end()
        world.trace.add("no more faults")
        await asyncio.sleep(LAST_ANSWERS_S)
        await self._until(lambda: [why for part in self.parts for why in part.unsettled()], "come true")
        world.trace.add("everything came true")
        for part in self.parts:
            await part.delete_all()
        await self._until(self._left, "go")

    async def _until(self, unsettled: Callable[[], list[str]], what: str) -> None:
        loop = self.world.loop
        end_s = loop.time() + CONVERGE_S
        while (left := unsettled()) or self.world.app is None:
            if loop.time() > end_s:
                raise Broken(f"{CONVERGE_S:g} s after the last fault did not {what}: {'; '.join(left[:6])}")
            await asyncio.sleep(LOOK_S)
            self.mischief.end()
            for part in self.parts:
                await part.help()

    def _left(self) -> list[str]:
        world = self.world
        kinds = ("VM", "VMRevision", "Deployment", "DeploymentRevision", "Claim", "Job", "Quota")
        left = [str(key) for key in sorted(world.registry.records) if key.kind in kinds]
        left += [f"process of {uid}" for uid in world.host.running if uid != FOREIGN_UID]
        return left + [f"directory of {uid}" for uid in sorted(world.places.known_uids())]


def build_manifest(digest: str) -> dict[str, Any]:
    medium = {"url": f"artifact:{digest}", "checksum": digest}
    return {
        "schema_version": "v1",
        "name": "nginx",
        "version": "1.0",
        "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/usr/sbin/nginx"]},
        "health_check": {"endpoint": "/"},
        "boot": {"kernel": medium, "initramfs": medium},
        "rootfs": medium,
    }
