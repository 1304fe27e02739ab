"""What the rules let through and what not, by frames that are really sent. A test that waits for nothing proves nothing, so
each sends a frame that must arrive behind those that must not: a bridge keeps their order."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Address

import msgspec
import pytest

from volant.net.fabric import HostFabric
from volant.net.namespace import NamespaceThread
from volant.net.plan import NetworkPlan
from volant.net.rules import Forward, Port, build_rules
from volant.run import run

from .net_wire import (
    BROADCAST,
    Guest,
    arp_reply,
    bind_udp,
    ethernet,
    icmp_echo,
    ipv4,
    mac_bytes,
    router_advertisement,
    tcp_syn,
    udp,
)

pytestmark = pytest.mark.vm

Enter = Callable[[str], Awaitable[NamespaceThread]]

OTHER_PLAN = NetworkPlan(bridge="vbr1", gateway=IPv4Address("192.168.128.1"), prefix_length=24)
PORTS = {
    name: Port(tap=f"vt-{name}", bridge=bridge, mac=f"02:00:00:00:00:0{number}", ip=ip)
    for number, (name, bridge, ip) in enumerate(
        [("a", "vbr0", "192.168.127.2"), ("b", "vbr0", "192.168.127.3"), ("other", "vbr1", "192.168.128.2")], start=1
    )
}
OUTSIDE_IP = "203.0.113.2"
UPLINK_IP = "203.0.113.1"
LLDP_GROUP = "01:80:c2:00:00:0e"
MARKER = b"let this pass"
GATEWAY = "192.168.127.1"
LIE = b"0123456789abcdef-this-is-a-lie"
A, B = PORTS["a"], PORTS["b"]


@pytest.fixture
async def guests(host_fabric: HostFabric, namespace: str, plan: NetworkPlan) -> AsyncIterator[dict[str, Guest]]:
    """Two neighbours ``a`` and ``b``, and one in another network, ``other``; the host knows where they live."""
    for network in (plan, OTHER_PLAN):
        await host_fabric.ensure_network(network)
    await host_fabric.apply_rules(build_rules([plan, OTHER_PLAN], list(PORTS.values())))
    found: dict[str, Guest] = {}
    try:
        for name, port in PORTS.items():
            found[name] = Guest(await host_fabric.open_tap(port.tap, port.bridge), port.mac, port.ip)
            await run(
                ["ip", "-n", namespace, "neigh", "replace", port.ip, "lladdr", port.mac, "dev", port.bridge, "nud", "permanent"],
                timeout_s=10,
            )
        yield found
    finally:
        for guest in found.values():
            guest.close()


@pytest.fixture
async def outside(new_namespace: Callable[[], str], namespace: str, enter: Enter) -> NamespaceThread:
    """Another host, that the first reaches by its uplink and by a default route."""
    name = new_namespace()
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "-n", namespace, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "-n", namespace, "address", "add", f"{UPLINK_IP}/24", "dev", "uplink"],
        ["ip", "-n", namespace, "link", "set", "uplink", "up"],
        ["ip", "-n", namespace, "route", "add", "default", "via", OUTSIDE_IP],
        ["ip", "-n", name, "address", "add", f"{OUTSIDE_IP}/24", "dev", "eth0"],
        ["ip", "-n", name, "link", "set", "lo", "up"],
        ["ip", "-n", name, "link", "set", "eth0", "up"],
        ["ip", "-n", name, "route", "add", "192.168.0.0/16", "via", UPLINK_IP],
    ):
        await run(command, timeout_s=10)
    return await enter(name)


async def assert_dropped(frame: bytes, sender: Guest, receiver: Guest) -> None:
    """``frame`` carries LIE and does not reach ``receiver``, though what ``sender`` says truly does."""
    assert LIE in frame
    sender.send(frame)
    sender.send_udp(receiver.mac, receiver.ip, 9, MARKER)
    assert not [seen for seen in await receiver.receive_until(MARKER) if LIE in seen]


async def test_neighbours_hear_each_other(guests: dict[str, Guest]) -> None:
    guests["a"].send(ethernet(A.mac, BROADCAST, 0x0806, arp_reply(A.mac, A.ip, B.mac, B.ip) + MARKER))
    assert (await guests["b"].receive_until(MARKER))[-1][6:12] == mac_bytes(A.mac)
    guests["b"].send_udp(A.mac, A.ip, 9, MARKER)
    assert (await guests["a"].receive_until(MARKER))[-1][6:12] == mac_bytes(B.mac)


async def test_a_guest_that_came_later_speaks_and_lies_no_more_than_others(host_fabric: HostFabric, plan: NetworkPlan) -> None:
    await host_fabric.ensure_network(plan)
    await host_fabric.apply_rules(build_rules([plan], [A]))
    assert await host_fabric.extend_rules([B])
    a = Guest(await host_fabric.open_tap(A.tap, A.bridge), A.mac, A.ip)
    b = Guest(await host_fabric.open_tap(B.tap, B.bridge), B.mac, B.ip)
    try:
        a.send_udp(B.mac, B.ip, 9, MARKER)
        await b.receive_until(MARKER)
        await assert_dropped(ethernet(B.mac, A.mac, 0x0800, ipv4("192.168.127.9", A.ip, 17, udp(1, 2, LIE))), b, a)
        await host_fabric.apply_rules(build_rules([plan], [A]))
        b.send(ethernet(B.mac, A.mac, 0x0800, ipv4(B.ip, A.ip, 17, udp(1, 2, LIE))))
        await host_fabric.apply_rules(build_rules([plan], [A, B]))
        b.send_udp(A.mac, A.ip, 9, MARKER)
        assert not [seen for seen in await a.receive_until(MARKER) if LIE in seen], "whole rules took its right away"
    finally:
        a.close()
        b.close()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ethernet(B.mac, BROADCAST, 0x0800, ipv4(A.ip, B.ip, 17, udp(1, 2, LIE))), id="another's MAC"),
        pytest.param(ethernet(A.mac, B.mac, 0x0800, ipv4("192.168.127.9", B.ip, 17, udp(1, 2, LIE))), id="another's IP"),
        pytest.param(ethernet(A.mac, B.mac, 0x0800, ipv4(GATEWAY, B.ip, 17, udp(1, 2, LIE))), id="the gateway's IP"),
        pytest.param(ethernet(A.mac, B.mac, 0x0806, arp_reply(A.mac, GATEWAY, B.mac, B.ip) + LIE), id="ARP for the gateway"),
        pytest.param(ethernet(A.mac, B.mac, 0x0806, arp_reply(B.mac, A.ip, B.mac, B.ip) + LIE), id="ARP naming another's MAC"),
        pytest.param(ethernet(B.mac, BROADCAST, 0x0806, arp_reply(A.mac, A.ip, B.mac, B.ip) + LIE), id="ARP from another's MAC"),
        pytest.param(
            ethernet(A.mac, B.mac, 0x0806, b"\0\6" + arp_reply(A.mac, A.ip, B.mac, B.ip)[2:] + LIE), id="ARP for other hardware"
        ),
        pytest.param(ethernet(A.mac, BROADCAST, 0x0800, ipv4(A.ip, "255.255.255.255", 17, udp(67, 68, LIE))), id="DHCP server"),
        pytest.param(ethernet(A.mac, "33:33:00:00:00:01", 0x86DD, router_advertisement(LIE)), id="IPv6 router"),
        pytest.param(ethernet(A.mac, B.mac, 0x8100, b"\0\5\x08\0" + ipv4(A.ip, B.ip, 17, udp(1, 2, LIE))), id="802.1Q tag"),
        pytest.param(ethernet(A.mac, B.mac, 0x8100, b"\0\0\x08\0" + ipv4(A.ip, B.ip, 17, udp(1, 2, LIE))), id="priority tag"),
        pytest.param(ethernet(A.mac, B.mac, 0x88A8, b"\0\5\x08\0" + ipv4(A.ip, B.ip, 17, udp(1, 2, LIE))), id="802.1ad tag"),
        pytest.param(ethernet(A.mac, B.mac, 0x8847, LIE), id="MPLS"),
        pytest.param(ethernet(A.mac, BROADCAST, len(LIE) + 3, b"\x42\x42\x03" + LIE), id="802.3 length, as STP has"),
        pytest.param(ethernet(A.mac, "01:80:c2:00:00:00", len(LIE) + 3, b"\x42\x42\x03" + LIE), id="STP"),
        pytest.param(ethernet(A.mac, B.mac, 0x0800, ipv4("0.0.0.0", B.ip, 17, udp(1, 2, LIE))), id="no sender"),
    ],
)
async def test_a_lie_stays_with_its_teller(guests: dict[str, Guest], frame: bytes) -> None:
    await assert_dropped(frame, guests["a"], guests["b"])


@pytest.mark.parametrize("asked", [GATEWAY, A.ip, "192.168.127.9"])
async def test_a_guest_is_not_asked_for_addresses_of_others(guests: dict[str, Guest], asked: str) -> None:
    question = arp_reply(A.mac, A.ip, "00:00:00:00:00:00", asked)
    await assert_dropped(ethernet(A.mac, BROADCAST, 0x0806, question + LIE), guests["a"], guests["b"])


async def test_a_bridge_learns_nothing_from_groups_it_does_not_forward(guests: dict[str, Guest], host_fabric: HostFabric) -> None:
    third = msgspec.structs.replace(A, tap="vt-third", mac="02:00:00:00:00:33", ip="192.168.127.33")
    await host_fabric.apply_rules(build_rules([_plan_of(A)], [A, B, third]))
    c = Guest(await host_fabric.open_tap(third.tap, third.bridge), third.mac, third.ip)
    try:
        guests["a"].send(ethernet(B.mac, LLDP_GROUP, 0x88CC, b"I am b"))
        c.send_udp(B.mac, B.ip, 9, MARKER)
        assert await guests["b"].receive_until(MARKER)
    finally:
        c.close()


def _plan_of(port: Port) -> NetworkPlan:
    return NetworkPlan(bridge=port.bridge, gateway=IPv4Address("192.168.127.1"), prefix_length=24)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        pytest.param("a", "", id="by its bridge"),
        pytest.param("other", "", id="from another network"),
        pytest.param("a", LLDP_GROUP, id="past the bridge, as LLDP"),
        pytest.param("a", "01:80:c2:00:00:03", id="past the bridge, as 802.1X"),
    ],
)
async def test_a_guest_does_not_reach_the_hosts_sockets(
    guests: dict[str, Guest], namespace: str, plan: NetworkPlan, enter: Enter, name: str, group: str
) -> None:
    inside = await enter(namespace)
    gateway = str(plan.gateway)
    with await inside.call(bind_udp, gateway) as receiver:
        port = receiver.getsockname()[1]
        bridge = plan if name == "a" else OTHER_PLAN
        guests[name].send_udp(group or bridge.mac, gateway, port, LIE)
        with await inside.call(bind_udp, gateway) as sender:
            sender.sendto(MARKER, (gateway, port))
        assert receiver.recv(100) == MARKER


async def test_the_gateway_answers_an_echo(guests: dict[str, Guest], plan: NetworkPlan) -> None:
    guests["a"].send(ethernet(A.mac, plan.mac, 0x0800, ipv4(A.ip, str(plan.gateway), 1, icmp_echo(b"are you there?"))))
    frames = await guests["a"].receive_until(b"are you there?")
    assert IPv4Address(frames[-1][26:30]) == plan.gateway


async def test_the_host_reaches_a_guest_and_hears_its_answer(
    guests: dict[str, Guest], namespace: str, plan: NetworkPlan, enter: Enter
) -> None:
    inside = await enter(namespace)
    with await inside.call(bind_udp, str(plan.gateway)) as host:
        host.sendto(MARKER, (A.ip, 4000))
        await guests["a"].receive_until(MARKER)
        guests["a"].send_udp(plan.mac, str(plan.gateway), host.getsockname()[1], b"answer")
        assert host.recv(100) == b"answer"


async def test_what_leaves_has_the_hosts_address_and_is_answered(
    guests: dict[str, Guest], outside: NamespaceThread, plan: NetworkPlan
) -> None:
    with await outside.call(bind_udp, OUTSIDE_IP) as receiver:
        guests["a"].send_udp(plan.mac, OUTSIDE_IP, receiver.getsockname()[1], b"question")
        question, sender = await outside.call(receiver.recvfrom, 100)
        assert (question, sender[0]) == (b"question", UPLINK_IP)
        receiver.sendto(b"answer", sender)
        answer = (await guests["a"].receive_until(b"answer"))[-1]
    assert (IPv4Address(answer[26:30]), IPv4Address(answer[30:34])) == (IPv4Address(OUTSIDE_IP), IPv4Address(A.ip))


async def test_nobody_outside_reaches_a_guest_unasked(
    guests: dict[str, Guest], outside: NamespaceThread, plan: NetworkPlan
) -> None:
    with await outside.call(bind_udp, OUTSIDE_IP) as stranger:
        stranger.sendto(LIE, (A.ip, 9))
        # The answer to a question asked after the lie comes by the same way, so behind it.
        guests["a"].send_udp(plan.mac, OUTSIDE_IP, stranger.getsockname()[1], b"question")
        _, sender = await outside.call(stranger.recvfrom, 100)
        stranger.sendto(MARKER, sender)
        assert not [seen for seen in await guests["a"].receive_until(MARKER) if LIE in seen]


async def test_networks_do_not_reach_each_other(guests: dict[str, Guest], namespace: str, enter: Enter) -> None:
    other = guests["other"]
    guests["a"].send(ethernet(A.mac, _plan_of(A).mac, 0x0800, ipv4(A.ip, other.ip, 17, udp(1, 2, LIE))))
    inside = await enter(namespace)
    with await inside.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.sendto(MARKER, (other.ip, 9))
    assert not [seen for seen in await other.receive_until(MARKER) if LIE in seen]


async def test_rules_that_were_taken_away_come_back(guests: dict[str, Guest], host_fabric: HostFabric, namespace: str) -> None:
    ruleset = build_rules([_plan_of(A)], [A, B])
    for table in ("inet volant", "bridge volant"):
        await host_fabric.apply_rules(ruleset)
        await run(["ip", "netns", "exec", namespace, "nft", "delete", "table", *table.split()], timeout_s=10)
        await host_fabric.apply_rules(ruleset)
        await assert_dropped(ethernet(B.mac, BROADCAST, 0x0800, ipv4(A.ip, B.ip, 17, udp(1, 2, LIE))), guests["a"], guests["b"])


async def test_what_a_guest_sends_is_counted_and_what_it_hears_is_not(
    guests: dict[str, Guest], host_fabric: HostFabric, plan: NetworkPlan
) -> None:
    before = await host_fabric.read_traffic()
    for _ in range(3):
        guests["a"].send_udp(B.mac, B.ip, 9, MARKER)
    await guests["b"].receive_until(MARKER)
    after = await host_fabric.read_traffic()
    assert {tap: after[tap] - before[tap] for tap in after} == {A.tap: 3, B.tap: 0, PORTS["other"].tap: 0}


@pytest.mark.parametrize("name", ["b", "other"])
@pytest.mark.parametrize("target", [GATEWAY, "192.168.128.1", UPLINK_IP])
async def test_a_published_port_is_not_there_for_guests(
    guests: dict[str, Guest], outside: NamespaceThread, host_fabric: HostFabric, plan: NetworkPlan, name: str, target: str
) -> None:
    forwards = [Forward(8080, A.ip, 80)]
    await host_fabric.apply_rules(build_rules([plan, OTHER_PLAN], list(PORTS.values()), forwards))
    sender, bridge = PORTS[name], plan if name == "b" else OTHER_PLAN
    with await host_fabric.open_listener(8080) as listener, await outside.call(bind_udp, OUTSIDE_IP) as receiver:
        segment = ipv4(sender.ip, target, 6, tcp_syn(sender.ip, target, 4000, 8080, LIE))
        guests[name].send(ethernet(sender.mac, bridge.mac, 0x0800, segment))
        # What the same guest sends to the world afterwards goes the same way, and arrives.
        guests[name].send_udp(bridge.mac, OUTSIDE_IP, receiver.getsockname()[1], MARKER)
        assert await outside.call(receiver.recv, 100) == MARKER
        with pytest.raises(BlockingIOError):
            listener.accept()
    guests["b"].send_udp(A.mac, A.ip, 9, MARKER)
    assert not [seen for seen in await guests["a"].receive_until(MARKER) if LIE in seen]
