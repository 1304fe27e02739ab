"""Guests whose agent is of the version before this one: what worked goes on working, what is new is refused and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from volant.core.condition import find_condition
from volant.core.errors import WrongState
from volant.core.patch import merge_patch
from volant.core.resource import Wanted
from volant.core.snapshot import SnapshotSpec
from volant.core.vm import RESTART_REQUIRED, VM
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.node.door import AttachRequest, ExecRequest, Terminal
from volant.plane import ControlPlane

from .host import World, check_nothing_left, reach, reach_gone, want
from .talking import talk

CAPABILITIES = ("exec", "logs", "http_probe", "renew", "freeze", "sync", "clone")
TOO_OLD = r"its agent, kestrel/\S+, is too old .*: build its plugin again"


@pytest.fixture
def old(world: World) -> World:
    """A host whose guests all have such an agent."""

    def make_guest(machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(world.clock)
        guest.capabilities, guest.max_streams = CAPABILITIES, 64
        return guest

    world.host.agent_factory = make_agent_factory(world.clock, make_guest)
    return world


def is_ready(vm: VM) -> bool:
    return vm.status.ready


async def echo(plane: ControlPlane, vm: VM) -> bytes:
    async with plane.node.open_exec(vm.uid, ExecRequest(argv=("echo", "here"))) as session:
        return b"".join([content async for _, content in session])


async def test_its_whole_life_is_as_it_was(old: World) -> None:
    async with old.plane() as (plane, _):
        await plane.intents.plugins.install(old.manifest())
        await plane.intents.vms.create(want("web", start="cold"))
        vm = await reach(plane, "web", is_ready)
        assert await echo(plane, vm) == b"here\n"
        stats = await plane.node.read_stats(vm.uid)
        assert stats.guest_memory_total_bytes
        await plane.intents.vms.create(want("clone", start="template"))
        clone = await reach(plane, "clone", is_ready)
        assert clone.status.start is not None and clone.status.start.kind == "template"
    async with old.plane() as (plane, _):
        # volantd was made new under guests that were not.
        again = await reach(plane, "web", is_ready)
        assert again.status.run_id == vm.status.run_id
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Suspended")
        await plane.intents.vms.start("web")
        again = await reach(plane, "web", is_ready)
        assert await echo(plane, again) == b"here\n"
        taken = await plane.intents.snapshots.create(Wanted(name="kept", labels={}, spec=SnapshotSpec(vm="web", memory=True)))
        done = await plane.intents.snapshots.wait(taken, timeout_s=30)
        assert done is not None and done.status.phase == "Ready", done
        await plane.intents.configuration.edit("web", lambda before: merge_patch(before, {"restart_policy": "never"}))
        told = await reach(plane, "web", lambda vm: vm.status.observed_generation >= vm.meta.generation > 1)
        condition = find_condition(told.status.conditions, RESTART_REQUIRED)
        assert condition is None or condition.status == "False", "it was renewed"
        await plane.intents.snapshots.delete("kept")
        await plane.intents.vms.stop("web")
        stopped = await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
        assert stopped.status.last_end is not None and stopped.status.last_end.clean
        for name in ("web", "clone"):
            await plane.intents.vms.delete(name)
            await reach_gone(plane, name)
        await check_nothing_left(old, plane)


def _workload(**members: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["workload"].update(members)


def _manifest(**members: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(members)


def _disk(manifest: dict[str, Any]) -> None:
    medium = manifest["rootfs"]
    manifest["disks"] = [{"name": "own", "source": medium["url"], "checksum": medium["checksum"], "target": "/srv"}]


DEMANDS: dict[str, tuple[Callable[[dict[str, Any]], None], dict[str, Any]]] = {
    "startup": (_manifest(probes={"startup": {"tcp": {"port": 80}}}), {}),
    "exec_probe": (_manifest(probes={"readiness": {"exec": ["/bin/true"]}}), {}),
    "liveness": (_manifest(probes={"liveness": {"tcp": {"port": 80}}}), {}),
    "hooks": (_manifest(lifecycle={"post_start": {"exec": ["/bin/true"]}}), {}),
    "ulimits": (_workload(ulimits={"nofile": {"soft": 64, "hard": 64}}), {}),
    "tty": (_workload(tty=True), {}),
    "stdin": (_workload(stdin=True), {}),
    "mounts": (_disk, {}),
    "dhcp": (_manifest(), {"network_mode": "dhcp"}),
}


@pytest.mark.parametrize("demand", DEMANDS)
async def test_what_a_plugin_asks_beyond_it_fails_the_start_and_says_why(old: World, demand: str) -> None:
    change, spec = DEMANDS[demand]
    manifest = old.manifest()
    change(manifest)
    if "probes" in manifest:
        manifest.pop("health_check")
    async with old.plane() as (plane, _):
        await plane.intents.plugins.install(manifest)
        await plane.intents.vms.create(want("web", start="cold", **spec))
        vm = await reach(plane, "web", lambda vm: vm.status.last_end is not None)
        assert vm.status.last_end is not None
        assert "is too old" in vm.status.last_end.message and "build its plugin again" in vm.status.last_end.message
        # Nothing else suffers, and it goes as any other.
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")
        await check_nothing_left(old, plane)


async def test_a_readiness_probe_by_http_is_said_in_words_that_it_knows(old: World) -> None:
    manifest = {**old.manifest(), "probes": {"readiness": {"http": {"path": "/"}}}}
    manifest.pop("health_check")
    async with old.plane() as (plane, _):
        await plane.intents.plugins.install(manifest)
        await plane.intents.vms.create(want("web", start="cold"))
        await reach(plane, "web", is_ready)


async def test_what_a_caller_asks_beyond_it_is_refused_and_costs_it_nothing(old: World) -> None:
    async with talk(old) as at:
        uid, node = at.vm.uid, at.plane.node

        async def nothing() -> Any:
            yield b""

        async def opened(context: Any) -> None:
            async with context:
                raise AssertionError("it was not refused")

        for step in (
            opened(node.open_exec(uid, ExecRequest(argv=("sh",), tty=Terminal()))),
            opened(node.open_attach(uid, AttachRequest())),
            opened(node.read_files(uid, "/etc")),
            opened(node.open_port(uid, 80)),
            node.write_files(uid, "/srv", nothing()),
        ):
            with pytest.raises(WrongState, match=TOO_OLD):
                await step
        assert await echo(at.plane, at.vm) == b"here\n"
        assert (await at.plane.intents.vms.get("web")).status.run_id == at.vm.status.run_id
