"""What every Fabric promises."""

from __future__ import annotations

import fcntl
import os

import pytest

from volant.core.errors import InUse, InvalidInput, NotFound, WrongState
from volant.net.fabric import Fabric
from volant.net.plan import NetworkPlan
from volant.net.rules import Forward, Port, build_rules

TAP = "vt-0123456789ab"


async def test_a_network_may_be_ensured_again_and_again(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    await fabric.ensure_network(plan)
    os.close(await fabric.open_tap(TAP, plan.bridge))


async def test_a_tap_is_there_until_its_descriptor_is_closed(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert await fabric.list_taps() == {TAP}
    os.close(copy)
    assert await fabric.list_taps() == set()


async def test_a_taps_descriptor_is_not_inherited(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(descriptor)


async def test_a_tap_that_is_held_is_not_taken_away(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    with pytest.raises(WrongState, match=TAP):
        await fabric.open_tap(TAP, plan.bridge)
    os.close(descriptor)
    os.close(await fabric.open_tap(TAP, plan.bridge))


async def test_a_tap_needs_its_bridge(fabric: Fabric, plan: NetworkPlan) -> None:
    with pytest.raises(NotFound, match=plan.bridge):
        await fabric.open_tap(TAP, plan.bridge)
    assert await fabric.list_taps() == set()


@pytest.mark.parametrize("name", ["eth0", "vt-0123456789abc", "vt-/../0"])
async def test_a_tap_has_a_name_of_ours(fabric: Fabric, plan: NetworkPlan, name: str) -> None:
    await fabric.ensure_network(plan)
    with pytest.raises(InvalidInput):
        await fabric.open_tap(name, plan.bridge)
    with pytest.raises(InvalidInput):
        await fabric.remove_tap(name)


async def test_a_tap_is_removed_even_while_held_and_only_once(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    await fabric.remove_tap(TAP)
    assert await fabric.list_taps() == set()
    await fabric.remove_tap(TAP)
    os.close(descriptor)


async def test_a_network_with_ports_stays(fabric: Fabric, plan: NetworkPlan) -> None:
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    with pytest.raises(InUse, match=plan.bridge):
        await fabric.remove_network(plan)
    os.close(descriptor)
    await fabric.remove_network(plan)
    await fabric.remove_network(plan)
    with pytest.raises(NotFound):
        await fabric.open_tap(TAP, plan.bridge)


async def test_rules_may_be_applied_again_changed_and_taken_away(fabric: Fabric, plan: NetworkPlan) -> None:
    port = Port(tap=TAP, bridge=plan.bridge, mac="02:00:00:00:00:01", ip="192.168.127.2")
    for ruleset in (build_rules([plan], []), build_rules([plan], [port]), build_rules([plan], [port]), build_rules([], [])):
        await fabric.apply_rules(ruleset)


async def test_ports_are_added_to_rules_that_are_known_and_the_next_whole_rules_replace_all(
    fabric: Fabric, plan: NetworkPlan
) -> None:
    first = Port(tap=TAP, bridge=plan.bridge, mac="02:00:00:00:00:01", ip="192.168.127.2")
    more = Port(tap="vt-more", bridge=plan.bridge, mac="02:00:00:00:00:02", ip="192.168.127.3")
    assert not await fabric.extend_rules([first]), "nobody knows what is installed"
    await fabric.apply_rules(build_rules([plan], [first]))
    assert await fabric.extend_rules([more])
    assert await fabric.extend_rules([more]), "it may be done twice"
    await fabric.apply_rules(build_rules([plan], [first]))
    assert await fabric.extend_rules([more])
    await fabric.apply_rules(build_rules([], []))
    assert not await fabric.extend_rules([more]), "there is nothing to extend"


async def test_a_fresh_network_collides_with_nothing(fabric: Fabric, plan: NetworkPlan) -> None:
    assert await fabric.find_collisions(plan) == []
    await fabric.ensure_network(plan)
    assert await fabric.find_collisions(plan) == []
    assert await fabric.find_forward_drops() == []


async def test_a_port_is_listened_on_once_until_it_is_closed(fabric: Fabric) -> None:
    listener = await fabric.open_listener(8080)
    assert listener.gettimeout() == 0
    with pytest.raises(InUse, match="8080"):
        await fabric.open_listener(8080)
    (await fabric.open_listener(8081)).close()
    listener.close()
    (await fabric.open_listener(8080)).close()


async def test_sockets_are_not_inherited_and_do_not_block(fabric: Fabric) -> None:
    for made in (await fabric.open_listener(8080), await fabric.open_connection_socket()):
        with made:
            assert not made.get_inheritable()
            assert made.gettimeout() == 0


async def test_a_guest_that_said_nothing_counts_nothing(fabric: Fabric, plan: NetworkPlan) -> None:
    assert await fabric.read_traffic() == {}
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap(TAP, plan.bridge)
    assert await fabric.read_traffic() == {TAP: 0}
    os.close(descriptor)
    assert await fabric.read_traffic() == {}


async def test_forwards_may_be_applied_changed_and_taken_away(fabric: Fabric, plan: NetworkPlan) -> None:
    one, other = Forward(8080, "192.168.127.2", 80), Forward(8081, "192.168.127.3", 8081)
    for forwards in ([], [one], [one, other], [other], []):
        await fabric.apply_rules(build_rules([plan], [], forwards))
