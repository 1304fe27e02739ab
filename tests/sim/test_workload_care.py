"""What becomes of a VM whose workload fails its probes, is restarted too often, or has an agent that knows no probes."""

from __future__ import annotations

from typing import Any

import pytest

from volant.core.errors import InvalidInput
from volant.core.vm import VM
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.hypervisor.simulated import SimulatedHost

from .host import World, reach, want

OLD = ("exec", "logs", "http_probe", "renew", "freeze", "sync", "clone")


def guest_of(world: World, vm: VM) -> SimulatedGuest:
    return world.host.running[vm.uid].serve_agent.guest  # type: ignore[union-attr,no-any-return]  # the simulated agent's


def is_ready(vm: VM) -> bool:
    return vm.status.ready


def make_manifest(world: World, **changes: Any) -> dict[str, Any]:
    manifest = {**world.manifest(), "start": {"template": "booted"}, **changes}
    del manifest["health_check"]
    return manifest


async def test_who_fails_liveness_is_not_ready_until_it_is_again(world: World) -> None:
    async with world.plane() as (plane, _):
        probes = {"readiness": {"http": {}}, "liveness": {"tcp": {"port": 80}}}
        await plane.intents.plugins.install(make_manifest(world, probes=probes))
        await plane.intents.vms.create(want("web", start="cold"))
        ready = await reach(plane, "web", is_ready)
        guest_of(world, ready).fail_liveness()
        ended = await reach(plane, "web", lambda vm: vm.status.workload.state == "backoff")
        assert ended.status.message == "the liveness probe failed 3 times: Connection refused; it is started again"
        again = await reach(plane, "web", is_ready)
        assert (again.status.workload.restarts, again.status.restarts) == (1, 0)
        assert again.status.run_id == ready.status.run_id


async def test_the_limit_of_restarts_holds_for_the_vm_too(world: World) -> None:
    async with world.plane() as (plane, _):
        manifest = make_manifest(world)
        restart = {"initial_backoff_ms": 1, "max_backoff_ms": 1, "max_restarts": 1}
        manifest["workload"] = {**manifest["workload"], "restart": restart}
        await plane.intents.plugins.install(manifest)
        await plane.intents.vms.create(want("web", start="cold"))
        first = await reach(plane, "web", is_ready)
        guest = guest_of(world, first)
        guest.crash_workload({"code": 3})
        await reach(plane, "web", lambda vm: vm.status.workload.restarts == 1 and vm.status.workload.state == "running")
        guest.crash_workload({"code": 3})
        over = await reach(plane, "web", lambda vm: vm.status.reason == "RestartLimit")
        end = over.status.last_end
        assert end is not None
        assert (over.status.phase, end.exit_code, end.gave_up, end.asked) == ("Failed", 3, True, False)
        assert over.status.retry_at is None
        await plane.intents.vms.restart("web")
        again = await reach(plane, "web", is_ready)
        assert again.status.run_id != first.status.run_id


async def test_an_agent_that_knows_no_probes_fails_the_start_and_is_named(world: World) -> None:
    def make_old(machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(world.clock)
        guest.capabilities = OLD
        return guest

    world.host = SimulatedHost(world.clock, agent_factory=make_agent_factory(world.clock, make_old))
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(make_manifest(world, probes={"liveness": {"tcp": {"port": 80}}}))
        await plane.intents.vms.create(want("web", start="cold"))
        vm = await reach(plane, "web", lambda vm: vm.status.last_end is not None)
        assert vm.status.last_end is not None
        assert "is too old for probes: build its plugin again" in vm.status.last_end.message
        await plane.intents.vms.stop("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")


async def test_hardware_that_no_host_has_is_refused_at_once(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(make_manifest(world, hardware={"cpu_features": ["no_such_feature"]}))
        with pytest.raises(InvalidInput, match="no host has: this host's processor has no no_such_feature"):
            await plane.intents.vms.create(want("web"))
        assert (await plane.intents.vms.list())[0] == []
