"""VMs that ask for their address, VMs without a network card, VMs with several: many at a time, and nothing of them leaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.core.condition import find_condition
from volant.core.errors import AlreadyExists, HostError, InUse, InvalidInput, NotFound
from volant.core.network import NetworkSpec
from volant.core.resource import Wanted
from volant.core.vm import NETWORK_READY, VM, ExtraDisk, PublishedPort
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.plane import ControlPlane

from .crash import crashing
from .host import World, check_nothing_left, reach, reach_gone, want

MANY = 12


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = make_world(tmp_path)
    await made.prepare()
    yield made
    await made.host.close()


def make_world(root: Path) -> World:
    """One whose guests are answered by the DHCP server of its fabric, and by none elsewhere."""
    made = World(root)

    def make_guest(machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(made.clock)
        guest.network.ask = made.fabric.find_lease
        return guest

    made.host.agent_factory = make_agent_factory(made.clock, make_guest)
    return made


def guest_of(world: World, vm: VM) -> Any:
    return world.host.running[vm.uid].serve_agent.guest


def network_ready(vm: VM) -> tuple[str, str]:
    condition = find_condition(vm.status.conditions, NETWORK_READY)
    return ("", "") if condition is None else (condition.status, condition.reason)


async def claims_of(plane: ControlPlane, thing: str) -> set[str]:
    return {claim.key.name for claim in (await plane.store.list("Claim")).items if claim.data["spec"]["thing"] == thing}


async def make_external(plane: ControlPlane, world: World, subnet: str = "10.77.0.0/24") -> None:
    with contextlib.suppress(AlreadyExists):
        await plane.intents.networks.create(
            Wanted(name="lan", labels={}, spec=NetworkSpec(bridge="br9", subnet=subnet, dhcp="external"))
        )


async def test_many_of_each_mode_at_a_time(world: World) -> None:
    names = {mode: [f"{mode}-{number}" for number in range(MANY)] for mode in ("vsock", "dhcp", "bridged")}
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        wanted = [want(name, network_mode=mode) for mode, some in names.items() for name in some]
        await asyncio.gather(*(plane.intents.vms.create(each) for each in wanted))
        for mode, some in names.items():
            for name in some:
                vm = await reach(plane, name, lambda vm: vm.status.ready and network_ready(vm)[0] == "True")
                assert len(vm.status.addresses) == (0 if mode == "vsock" else 1)
        vms, _ = await plane.intents.vms.list()
        addresses = [address for vm in vms for address in vm.status.addresses]
        assert len({address.ip for address in addresses}) == 2 * MANY
        assert {address.source for address in addresses} == {"static", "dhcp"}
        [served] = world.fabric.served
        assert {lease.ip for lease in served.leases} == {each.ip for each in addresses if each.source == "dhcp"}
        assert sum(len(process.machine.networks) for process in world.host.running.values()) == 2 * MANY
        assert len(await claims_of(plane, "ip")) == len(await claims_of(plane, "mac")) == 2 * MANY
        await asyncio.gather(*(plane.intents.vms.delete(vm.name) for vm in vms))
        for vm in vms:
            await reach_gone(plane, vm.name)
        await check_nothing_left(world, plane)
    async with world.plane() as (plane, _):
        await reach_unserved(world)


async def reach_unserved(world: World) -> None:
    """Return once nobody's DHCP questions are answered; the rules follow a moment after the last VM."""
    async with asyncio.timeout(10):
        while world.fabric.served:  # noqa: ASYNC110  # another task's work, which tells nobody here
            await asyncio.sleep(0.01)


async def test_a_published_port_of_a_vm_without_a_card_leads_through_its_channel(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"guest says " + await reader.read(100))
        writer.write_eof()

    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await plane.intents.vms.create(
            want("web", network_mode="vsock", ports=(PublishedPort(port=80, host_port=8080),), start="cold")
        )
        await reach(plane, "web", lambda vm: vm.status.ready)
        guest_of(world, vm).ports[80] = serve
        reader, writer = await asyncio.open_connection("127.0.0.1", world.fabric.listening[8080])
        writer.write(b"hello")
        async with asyncio.timeout(10):
            assert await reader.read() == b"guest says hello"
        writer.close()
        assert "published_ips" in world.fabric.ruleset.encode().decode()
        assert b"[8080" not in world.fabric.ruleset.encode(), "no rule leads there"


async def test_an_address_that_others_gave_is_learned_claimed_and_given_back(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_external(plane, world)
        made = await plane.intents.vms.create(want("web", network="lan"))
        assert made.spec.network_mode == "dhcp", "the only mode that there is there"
        vm = await reach(plane, "web", lambda vm: vm.status.ready)
        assert network_ready(vm) == ("False", "WaitingForLease")
        assert await claims_of(plane, "ip") == set()
        guest_of(world, vm).give_lease("10.77.0.50/24", "10.77.0.1")
        vm = await reach(plane, "web", lambda vm: network_ready(vm)[0] == "True")
        [card] = vm.status.addresses
        assert (card.ip, card.prefix_length, card.gateway) == ("10.77.0.50", 24, "10.77.0.1")
        assert await claims_of(plane, "ip") == {"ip.lan.10.77.0.50"}
        assert b"10.77.0.50" in world.fabric.ruleset.encode(), "from now on it may speak"
        settled = vm.status.run_id
        guest_of(world, vm).give_lease("10.77.0.51/24", "10.77.0.1")
        vm = await reach(plane, "web", lambda vm: vm.status.addresses[0].ip == "10.77.0.51")
        assert await claims_of(plane, "ip") == {"ip.lan.10.77.0.51"}
        guest_of(world, vm).give_lease("")
        vm = await reach(plane, "web", lambda vm: vm.status.addresses[0].ip == "")
        assert await claims_of(plane, "ip") == set()
        assert vm.status.ready and vm.status.run_id == settled and vm.status.workload.restarts == 0


@pytest.mark.parametrize(
    "told",
    [
        "10.88.0.5/24",
        "10.77.0.0/24",
        "10.77.0.255/24",
        "224.0.0.1/24",
        "127.0.0.1/8",
        "0.0.0.0/0",
        "10.77.0.5/0",
        "10.77.0.1/24",
        "x",
    ],
)
async def test_what_a_guest_says_is_not_believed_when_it_cannot_be(world: World, told: str) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_external(plane, world)
        vm = await plane.intents.vms.create(want("web", network="lan"))
        await reach(plane, "web", lambda vm: vm.status.ready)
        guest_of(world, vm).give_lease(told, "10.77.0.1")
        vm = await reach(plane, "web", lambda vm: network_ready(vm) == ("False", "AddressConflict"))
        assert vm.status.addresses[0].ip == "" and await claims_of(plane, "ip") == set()


async def test_an_address_of_another_vm_is_a_conflict(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_external(plane, world)
        for name in ("first", "second"):
            vm = await plane.intents.vms.create(want(name, network="lan"))
            await reach(plane, name, lambda vm: vm.status.ready)
            guest_of(world, vm).give_lease("10.77.0.50/24")
            await reach(plane, name, lambda vm: network_ready(vm)[1] in ("Connected", "AddressConflict"))
        second = await plane.intents.vms.get("second")
        condition = find_condition(second.status.conditions, NETWORK_READY)
        assert condition is not None and "another VM's" in condition.message
        assert second.status.addresses[0].ip == ""
        assert world.fabric.ruleset.encode().count(b"10.77.0.50") == 2, "it sends and is asked by one"


async def test_no_dhcp_server_is_told_and_keeps_no_other_vm_from_starting(world: World) -> None:
    def fault(step: str) -> None:
        if step == "network serve_dhcp":
            raise HostError("there is no dnsmasq")

    world.fault = fault
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("plain"))
        await reach(plane, "plain", lambda vm: vm.status.ready)
        await plane.intents.vms.create(want("asks", network_mode="dhcp"))
        failed = await reach(plane, "asks", lambda vm: vm.status.phase == "Failed")
        assert "there is no dnsmasq" in failed.status.message
        world.fault = lambda step: None
        await reach(plane, "asks", lambda vm: vm.status.ready)


async def test_an_agent_that_cannot_ask_is_told_of(world: World) -> None:
    def make_guest(machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(world.clock)
        guest.capabilities = tuple(each for each in guest.capabilities if each != "dhcp")
        return guest

    world.host.agent_factory = make_agent_factory(world.clock, make_guest)
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", network_mode="dhcp", start="cold"))
        vm = await reach(plane, "web", lambda vm: "too old to ask for its address" in vm.status.message)
        assert "build its plugin again" in vm.status.message and not vm.status.ready


async def test_several_cards_and_disks(world: World) -> None:
    async with world.plane() as (plane, _):
        manifest = world.manifest()
        manifest["disks"] = [
            {
                "name": "shared",
                "source": f"artifact:{world.digest}",
                "checksum": world.digest,
                "readonly": True,
                "target": "/srv/s",
            },
            {"name": "own", "source": f"artifact:{world.digest}", "checksum": world.digest, "target": "/srv/own"},
        ]
        await plane.intents.plugins.install(manifest)
        await plane.intents.networks.create(Wanted(name="back", labels={}, spec=NetworkSpec(subnet="10.20.0.0/24")))
        disks = (ExtraDisk(name="scratch", size_mb=4),)
        with pytest.raises(InvalidInput, match="no network named 'no'"):
            await plane.intents.vms.create(want("web", extra_networks=("no",)))
        vm = await plane.intents.vms.create(want("web", extra_networks=("back", "back"), disks=disks))
        await reach(plane, "web", lambda vm: vm.status.ready)
        assert len(world.host.running[vm.uid].machine.networks) == 3
        assert [card.network for card in vm.status.addresses] == ["default", "back", "back"]
        machine = world.host.running[vm.uid].machine
        assert [disk.serial for disk in machine.disks] == ["rootfs", "data", "shared", "own", "scratch"]
        places = [device.bus for device in (*machine.disks, *machine.networks)]
        assert len(set(places)) == len(places)
        document = guest_of(world, vm)._document
        told = msgspec.json.decode(document)
        assert [each["name"] for each in told["network"]["interfaces"]] == ["eth0", "eth1", "eth2"]
        assert [each.get("gateway", "") != "" for each in told["network"]["interfaces"]] == [True, False, False]
        assert told["mounts"] == [
            {"disk": "shared", "path": "/srv/s", "readonly": True},
            {"disk": "own", "path": "/srv/own"},
        ]
        files = {path.name for path in (world.places.units / vm.uid).glob("disk*")}
        assert files == {"disk.img", "disk-own.img", "disk-scratch.img"}
        with pytest.raises(InUse, match="used by the VM 'web'"):
            await plane.intents.networks.delete("back")
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")
        await check_nothing_left(world, plane)
        await plane.intents.networks.delete("back")
        async with asyncio.timeout(10):
            while (await plane.intents.networks.list())[0][0].name != "default":  # noqa: ASYNC110  # nor does this
                await asyncio.sleep(0.01)
        assert "vbr-back" not in world.fabric.networks


async def run_external_life(world: World, plane: ControlPlane) -> None:
    intents = plane.intents
    await intents.plugins.install(world.manifest())
    await make_external(plane, world)
    if any(vm.deleting for vm in (await intents.vms.list())[0]):
        await reach_gone(plane, "web")
    with contextlib.suppress(AlreadyExists):
        await intents.vms.create(want("web", network="lan"))
    vm = await reach(plane, "web", lambda vm: vm.status.ready)
    for given in ("10.77.0.50/24", "10.77.0.51/24", "", "10.77.0.52/24"):
        guest_of(world, vm).give_lease(given)
        ip = given.partition("/")[0]
        await reach(plane, "web", lambda vm, ip=ip: vm.status.addresses[0].ip == ip)
    assert await claims_of(plane, "ip") == {"ip.lan.10.77.0.52"}
    with contextlib.suppress(NotFound):
        await intents.vms.delete("web")
    await reach_gone(plane, "web")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_write_of_a_lease_no_claim_leaks(tmp_path: Path, after: bool) -> None:
    async def run(name: str, crash_at: int | None) -> int:
        root = tmp_path / name
        await asyncio.to_thread(root.mkdir)
        world = make_world(root)
        await world.prepare()
        writes = 0
        with crashing():
            async with world.plane(crash_at, after=after) as (plane, store):
                await run_external_life(world, plane)
                writes = store.writes
        if crash_at is not None:
            async with world.plane() as (plane, _):
                await run_external_life(world, plane)
                await check_nothing_left(world, plane)
                assert await claims_of(plane, "ip") == set()
        await world.host.close()
        return writes

    total = await run("count", None)
    assert total > 10
    for crash_at in range(1, total + 1):
        await run(f"crash-{crash_at}", crash_at)
