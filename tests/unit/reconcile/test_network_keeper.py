"""Which published ports are reached past volantd, and when the rules that do so are written anew."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import HostError
from volant.core.ids import Uid
from volant.core.resource import to_stored
from volant.core.vm import VM
from volant.reconcile.network import NetworkKeeper, changes_forwards
from volant.store.contract import Change, Stored
from volant.store.records import key_of

from .port_world import World, change_vm, make_vm, open_world

PORTS = {8080: 80}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.add_network()
        yield opened


def listens_everywhere(uid: Uid, host_port: int) -> bool:
    return True


def published(world: World) -> dict[int, str]:
    """What the rules in force say: the guest's address and port by the host's port."""
    maps = [each["add"]["map"] for each in json.loads(world.fabric.ruleset.encode())["nftables"] if "map" in each.get("add", {})]
    found = {each["name"]: dict(each.get("elem", [])) for each in maps}
    assert found["published_ips"].keys() == found["published_ports"].keys()
    return {host_port: f"{ip}:{found['published_ports'][host_port]}" for host_port, ip in found["published_ips"].items()}


async def test_a_vm_that_is_awake_and_stays_so_is_reached_past_volantd(world: World) -> None:
    await world.add(make_vm("web", ports={8080: 80, 8443: 443}, ip="10.9.0.2"))
    await world.add(make_vm("plain", ip="10.9.0.3"))
    await NetworkKeeper(world.cache, world.fabric, listens_everywhere).ensure()
    assert published(world) == {8080: "10.9.0.2:80", 8443: "10.9.0.2:443"}


@pytest.mark.parametrize(
    "changes",
    [
        {"ready": False},
        {"power": "suspended"},
        {"power": "stopped"},
        {"power": "parked"},
        {"auto_suspend_s": 300},
        {"addresses": ()},
    ],
)
async def test_others_are_reached_by_volantd_only(world: World, changes: dict[str, Any]) -> None:
    await world.add(make_vm(ports=PORTS, ip="10.9.0.2", **changes))
    await NetworkKeeper(world.cache, world.fabric, listens_everywhere).ensure()
    assert published(world) == {}


async def test_a_port_that_volantd_does_not_have_is_not_taken_from_who_has_it(world: World) -> None:
    vm = await world.add(make_vm(ports={22: 22, 8080: 80}, ip="10.9.0.2"))
    await NetworkKeeper(world.cache, world.fabric, lambda uid, port: (uid, port) == (vm.uid, 8080)).ensure()
    assert published(world) == {8080: "10.9.0.2:80"}


async def test_a_vm_of_a_network_that_is_not_there_is_left_out(world: World) -> None:
    vm = make_vm(ports=PORTS, ip="10.9.0.2")
    address = vm.status.addresses[0]
    await world.add(change_vm(vm, addresses=(type(address)(**{**_fields(address), "network": "other"}),)))
    await NetworkKeeper(world.cache, world.fabric, listens_everywhere).ensure()
    assert published(world) == {}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


async def test_the_start_of_one_vm_keeps_the_forwards_of_the_others(world: World) -> None:
    await world.add(make_vm("web", ports=PORTS, ip="10.9.0.2"))
    await NetworkKeeper(world.cache, world.fabric, listens_everywhere).ensure_port(make_vm("new", ip="10.9.0.3", ready=False))
    assert published(world) == {8080: "10.9.0.2:80"}


async def test_ports_are_closed_before_the_cache_knows_why(world: World) -> None:
    vm = await world.add(make_vm("web", ports=PORTS, ip="10.9.0.2"))
    await world.add(make_vm("other", ports={8081: 80}, ip="10.9.0.3"))
    keeper = NetworkKeeper(world.cache, world.fabric, listens_everywhere)
    await keeper.ensure()
    await keeper.close_ports(vm)
    assert published(world) == {8081: "10.9.0.3:80"}


async def test_closing_what_is_not_open_writes_nothing_unless_it_is_not_known(world: World) -> None:
    vm = await world.add(make_vm("web", ports=PORTS, ip="10.9.0.2", auto_suspend_s=5))
    keeper = NetworkKeeper(world.cache, world.fabric, listens_everywhere)
    steps: list[str] = []
    world.fabric.before = steps.append
    await keeper.close_ports(vm)
    assert "apply_rules" in steps, "an earlier volantd may have left rules"
    steps.clear()
    await keeper.close_ports(vm)
    assert steps == []


def told(vm: VM | None, old: VM | None) -> bool:
    last = vm or old
    assert last is not None
    change = Change("put" if vm else "delete", key_of(last), to_stored(last))
    return changes_forwards(change, None if old is None else Stored(key_of(old), 1, to_stored(old)))


def test_only_what_changes_forwards_asks_for_rules() -> None:
    ready = make_vm(ports=PORTS)
    waiting = change_vm(ready, ready=False)
    assert told(ready, waiting) and told(waiting, ready) and told(ready, None) and told(None, ready)
    assert told(change_vm(ready, power="suspended"), ready)
    assert not told(change_vm(ready, message="more"), ready)
    assert not told(waiting, None) and not told(None, waiting)
    plain = make_vm()
    assert not told(plain, change_vm(plain, ready=False))


async def test_a_start_adds_to_the_rules_in_force_and_does_not_make_them_anew(world: World) -> None:
    await world.add(make_vm("web", ports=PORTS, ip="10.9.0.2"))
    keeper = NetworkKeeper(world.cache, world.fabric, listens_everywhere)
    await keeper.ensure()
    applied = world.fabric.applied
    new = make_vm("new", ip="10.9.0.3", ready=False)
    await keeper.ensure_port(new)
    await keeper.ensure_port(new)
    assert (world.fabric.applied, world.fabric.extended) == (applied, 1)
    await keeper.ensure_port(change_vm(new, addresses=make_vm("new", ip="10.9.0.4").status.addresses))
    assert (world.fabric.applied, world.fabric.extended) == (applied + 1, 1), "what it may say no longer has to go"


async def test_rules_that_could_not_be_extended_are_made_anew(world: World) -> None:
    keeper = NetworkKeeper(world.cache, world.fabric, listens_everywhere)
    await keeper.ensure()
    applied = world.fabric.applied

    def fail(step: str) -> None:
        if step == "extend_rules":
            raise HostError("nft: no such table")

    world.fabric.before = fail
    await keeper.ensure_port(make_vm("new", ip="10.9.0.3"))
    assert (world.fabric.applied, world.fabric.extended) == (applied + 1, 0)
