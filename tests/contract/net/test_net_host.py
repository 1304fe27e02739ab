"""What only a host can have: leftovers, strangers' interfaces, other programs' rules."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import HostError, WrongState
from volant.net.fabric import HostFabric
from volant.net.links import Link, Links
from volant.net.namespace import NamespaceThread, ensure_namespace, namespace_exists
from volant.net.plan import NetworkPlan
from volant.net.rules import Port, build_rules
from volant.net.tap import TUNSETPERSIST
from volant.run import run

pytestmark = pytest.mark.vm

Enter = Callable[[str], Awaitable[NamespaceThread]]
TAP = "vt-0123456789ab"


async def ip(namespace: str, *words: str) -> str:
    return (await run(["ip", "-n", namespace, *words], timeout_s=10)).text


async def nft(namespace: str, *words: str) -> str:
    return (await run(["ip", "netns", "exec", namespace, "nft", *words], timeout_s=10)).text


@pytest.fixture
async def inside(namespace: str, enter: Enter) -> NamespaceThread:
    return await enter(namespace)


async def look(inside: NamespaceThread, name: str) -> Link | None:
    links = await Links.open(inside)
    try:
        return await links.find(name)
    finally:
        links.close()


async def addresses_of(inside: NamespaceThread, link: Link) -> list[IPv4Interface]:
    links = await Links.open(inside)
    try:
        return [address for index, address in await links.list_addresses() if index == link.index]
    finally:
        links.close()


async def test_a_network_is_a_bridge_that_is_up_with_its_address(
    host_fabric: HostFabric, inside: NamespaceThread, plan: NetworkPlan
) -> None:
    await host_fabric.ensure_network(plan)
    bridge = await look(inside, plan.bridge)
    assert bridge is not None
    assert (bridge.kind, bridge.mac, bridge.mtu, bridge.up) == ("bridge", plan.mac, 1500, True)
    assert await addresses_of(inside, bridge) == [plan.interface]
    assert await inside.call(Path("/proc/sys/net/ipv4/ip_forward").read_text) == "1\n"
    lo = await look(inside, "lo")
    assert lo is not None and lo.up


async def test_what_was_changed_by_hand_is_put_right(
    host_fabric: HostFabric, inside: NamespaceThread, namespace: str, plan: NetworkPlan
) -> None:
    await host_fabric.ensure_network(plan)
    await ip(namespace, "link", "set", plan.bridge, "down", "mtu", "1400")
    await ip(namespace, "address", "flush", "dev", plan.bridge)
    await ip(namespace, "address", "add", "192.168.99.1/24", "dev", plan.bridge)
    await host_fabric.ensure_network(plan)
    bridge = await look(inside, plan.bridge)
    assert bridge is not None and bridge.up and bridge.mtu == plan.mtu
    assert await addresses_of(inside, bridge) == [plan.interface]


async def test_a_bridge_changes_with_its_plan(host_fabric: HostFabric, inside: NamespaceThread, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    before = await look(inside, plan.bridge)
    new = msgspec.structs.replace(plan, gateway=IPv4Address("10.9.0.1"), prefix_length=16, mtu=1400)
    await host_fabric.ensure_network(new)
    after = await look(inside, plan.bridge)
    assert before is not None and after is not None
    assert (after.index, after.mac, after.mtu) == (before.index, before.mac, 1400)
    assert await addresses_of(inside, after) == [new.interface]


@pytest.mark.parametrize("kind", [("bridge",), ("veth", "peer", "name", "x0")], ids=["bridge", "veth"])
async def test_a_strangers_interface_is_left_alone(
    host_fabric: HostFabric, namespace: str, plan: NetworkPlan, kind: tuple[str, ...]
) -> None:
    await ip(namespace, "link", "add", plan.bridge, "type", *kind)
    before = await ip(namespace, "address", "show", plan.bridge)
    with pytest.raises(WrongState, match=plan.bridge):
        await host_fabric.ensure_network(plan)
    await host_fabric.remove_network(plan)
    assert await ip(namespace, "address", "show", plan.bridge) == before


async def test_a_tap_is_quiet_up_and_a_port_of_its_bridge(
    host_fabric: HostFabric, inside: NamespaceThread, plan: NetworkPlan
) -> None:
    await host_fabric.ensure_network(msgspec.structs.replace(plan, mtu=1400))
    descriptor = await host_fabric.open_tap(TAP, plan.bridge)
    bridge, tap = await look(inside, plan.bridge), await look(inside, TAP)
    assert bridge is not None and tap is not None
    assert (tap.up, tap.master, tap.mtu) == (True, bridge.index, 1400)
    assert bridge.mac == plan.mac
    for name in (TAP, plan.bridge):
        assert await inside.call(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").read_text) == "1\n"
    os.close(descriptor)


async def test_a_tap_that_nobody_holds_is_replaced(
    host_fabric: HostFabric, inside: NamespaceThread, namespace: str, plan: NetworkPlan
) -> None:
    await host_fabric.ensure_network(plan)
    await ip(namespace, "tuntap", "add", TAP, "mode", "tap", "vnet_hdr")
    descriptor = await host_fabric.open_tap(TAP, plan.bridge)
    os.close(descriptor)
    assert await host_fabric.list_taps() == set()


async def test_a_held_persistent_tap_is_left_alone(host_fabric: HostFabric, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    descriptor = await host_fabric.open_tap(TAP, plan.bridge)
    fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    with pytest.raises(WrongState):
        await host_fabric.open_tap(TAP, plan.bridge)
    os.close(descriptor)
    assert await host_fabric.list_taps() == {TAP}
    os.close(await host_fabric.open_tap(TAP, plan.bridge))


async def test_another_kind_of_interface_is_no_tap(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    await ip(namespace, "link", "add", TAP, "type", "veth", "peer", "name", "x0")
    with pytest.raises(WrongState, match="not a tap"):
        await host_fabric.open_tap(TAP, plan.bridge)
    await host_fabric.remove_tap(TAP)
    assert await host_fabric.list_taps() == set()


async def test_a_cancelled_tap_leaves_nothing(
    host_fabric: HostFabric, plan: NetworkPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host_fabric.ensure_network(plan)
    before = set(os.listdir("/proc/self/fd"))
    asking = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        asking.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Links, "change", never)
        opening = asyncio.create_task(host_fabric.open_tap(TAP, plan.bridge))
        await asking.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert await host_fabric.list_taps() == set()
    assert set(os.listdir("/proc/self/fd")) == before


async def test_many_taps_may_be_opened_at_once(host_fabric: HostFabric, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    names = {f"vt-{i:012x}" for i in range(20)}
    descriptors = await asyncio.gather(*(host_fabric.open_tap(name, plan.bridge) for name in names))
    assert await host_fabric.list_taps() == names
    for descriptor in descriptors:
        os.close(descriptor)


async def test_two_volantds_do_not_share_a_namespace(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    second = HostFabric(namespace)
    await second.open()
    try:
        assert await second.find_collisions(plan) == []
        with pytest.raises(WrongState, match="another volantd"):
            await second.ensure_network(plan)
        with pytest.raises(WrongState, match="another volantd"):
            await second.apply_rules(build_rules([], []))
        await host_fabric.close()
        await second.ensure_network(plan)
    finally:
        await second.close()


async def test_all_stays_when_the_fabric_is_closed_and_is_found_again(namespace: str, plan: NetworkPlan) -> None:
    ruleset = build_rules([plan], [Port(tap=TAP, bridge=plan.bridge, mac="02:00:00:00:00:01", ip="192.168.127.2")])
    first = HostFabric(namespace)
    await first.open()
    await first.ensure_network(plan)
    await first.apply_rules(ruleset)
    descriptor = await first.open_tap(TAP, plan.bridge)
    await first.close()
    handles = await nft(namespace, "-a", "list", "ruleset")
    second = HostFabric(namespace)
    await second.open()
    await second.ensure_network(plan)
    await second.apply_rules(ruleset)
    assert await second.list_taps() == {TAP}
    assert await nft(namespace, "-a", "list", "ruleset") == handles
    await second.close()
    os.close(descriptor)


async def test_rules_of_others_are_not_touched(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await nft(namespace, "add", "table", "ip", "filter")
    await nft(namespace, "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    before = await nft(namespace, "list", "ruleset")
    assert [line for line in await host_fabric.find_forward_drops() if "FORWARD of table ip filter" in line]
    await host_fabric.apply_rules(build_rules([plan], []))
    assert len(await host_fabric.find_forward_drops()) == 1
    await host_fabric.apply_rules(build_rules([], []))
    assert await nft(namespace, "list", "ruleset") == before


async def test_rules_that_nft_refuses_change_nothing(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await host_fabric.apply_rules(build_rules([plan], []))
    before = await nft(namespace, "list", "ruleset")
    bad = Port(tap=TAP, bridge=plan.bridge, mac="02:00:00:00:00:01", ip="192.168.127.256")
    with pytest.raises(HostError, match="Error"):
        await host_fabric.apply_rules(build_rules([plan], [bad]))
    assert await nft(namespace, "list", "ruleset") == before


async def test_collisions_are_found_where_the_networks_are(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await ip(namespace, "link", "add", "uplink", "type", "bridge")
    await ip(namespace, "address", "add", "192.168.127.200/25", "dev", "uplink")
    await ip(namespace, "link", "set", "uplink", "up")
    await ip(namespace, "route", "add", "192.168.0.0/16", "dev", "uplink")
    await ip(namespace, "route", "add", "default", "dev", "uplink")
    await host_fabric.ensure_network(plan)
    assert await host_fabric.find_collisions(plan) == [
        "address 192.168.127.200/25 on uplink",
        "route 192.168.0.0/16 by uplink",
    ]


async def test_a_namespace_that_went_is_made_again(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> None:
    await host_fabric.close()
    await run(["ip", "netns", "delete", namespace], timeout_s=10)
    await host_fabric.open()
    assert namespace_exists(namespace)
    await host_fabric.ensure_network(plan)
    assert plan.bridge in await ip(namespace, "link", "show")


IN_HOST_MODE = """
import asyncio, os
from ipaddress import IPv4Address
from volant.net.fabric import HostFabric
from volant.net.plan import NetworkPlan
from volant.net.rules import build_rules

async def main():
    plan = NetworkPlan(bridge="vbr0", gateway=IPv4Address("192.168.127.1"), prefix_length=24)
    fabric = HostFabric(None)
    await fabric.open()
    await fabric.ensure_network(plan)
    await fabric.apply_rules(build_rules([plan], []))
    descriptor = await fabric.open_tap("vt-0", plan.bridge)
    print(*await fabric.list_taps())
    os.close(descriptor)
    await fabric.close()

asyncio.run(main())
"""


async def test_without_a_namespace_of_its_own_it_works_where_the_process_is(
    new_namespace: Callable[[], str], plan: NetworkPlan
) -> None:
    name = new_namespace()
    await ensure_namespace(name)
    done = await run(["ip", "netns", "exec", name, sys.executable, "-c", IN_HOST_MODE], timeout_s=60)
    assert done.text == "vt-0\n"
    assert str(plan.interface) in await ip(name, "address", "show", plan.bridge)
    assert "masquerade" in await nft(name, "list", "table", "inet", "volant")


@pytest.mark.parametrize("moments", range(0, 40, 3))
async def test_a_tap_that_is_cancelled_at_any_moment_leaves_nothing(
    host_fabric: HostFabric, plan: NetworkPlan, moments: int
) -> None:
    await host_fabric.ensure_network(plan)
    before = set(os.listdir("/proc/self/fd"))
    opening = asyncio.create_task(host_fabric.open_tap(TAP, plan.bridge))
    for _ in range(moments):
        await asyncio.sleep(0)
    opening.cancel()
    try:
        os.close(await opening)
    except asyncio.CancelledError:
        assert opening.cancelled()
    assert await host_fabric.list_taps() == set()
    assert set(os.listdir("/proc/self/fd")) == before
    os.close(await host_fabric.open_tap(TAP, plan.bridge))


@pytest.mark.parametrize("step", ["find", "add_bridge", "change", "list_addresses", "add_address", "remove_address"])
async def test_a_crash_after_any_step_is_made_good_by_the_next_volantd(
    namespace: str, inside: NamespaceThread, plan: NetworkPlan, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = msgspec.structs.replace(plan, gateway=IPv4Address("10.9.0.1"))
    if step == "remove_address":
        first = HostFabric(namespace)
        await first.open()
        await first.ensure_network(old)
        await first.close()
    real = getattr(Links, step)

    async def do_and_crash(*arguments: object, **options: object) -> None:
        await real(*arguments, **options)
        raise Crash

    crashing = HostFabric(namespace)
    await crashing.open()
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Links, step, do_and_crash)
        await crashing.ensure_network(plan)
    await crashing.close()
    following = HostFabric(namespace)
    await following.open()
    await following.ensure_network(plan)
    bridge = await look(inside, plan.bridge)
    assert bridge is not None and bridge.up
    assert await addresses_of(inside, bridge) == [plan.interface]
    os.close(await following.open_tap(TAP, plan.bridge))
    await following.close()


class Crash(BaseException):
    """Ends a step as nothing that is caught would."""


async def test_a_guest_that_does_not_answer_arp_is_asked_again_soon(
    host_fabric: HostFabric, inside: NamespaceThread, plan: NetworkPlan
) -> None:
    await host_fabric.ensure_network(plan)
    neighbours = Path(f"/proc/sys/net/ipv4/neigh/{plan.bridge}")
    found = {
        name: await inside.call((neighbours / name).read_text) for name in ("retrans_time_ms", "mcast_solicit", "ucast_solicit")
    }
    assert found == {"retrans_time_ms": "100\n", "mcast_solicit": "30\n", "ucast_solicit": "30\n"}
