"""A guest that asks for its address: who answers, who hears of it, and what it may say before and after."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import NotFound
from volant.net.dhcp import Lease, Served, end_earlier
from volant.net.fabric import HostFabric
from volant.net.plan import NetworkPlan
from volant.net.rules import Port, build_rules
from volant.run import run

from .net_wire import BROADCAST, Guest, arp_reply, ethernet, ipv4, mac_bytes, udp

pytestmark = pytest.mark.vm

ASKING = Port(tap="vt-ask", bridge="vbr0", mac="02:00:00:00:00:0a", ip="192.168.127.9", dhcp=True)
PLAIN = Port(tap="vt-plain", bridge="vbr0", mac="02:00:00:00:00:0b", ip="192.168.127.3")
LEASE = Lease(ip=ASKING.ip, mac=ASKING.mac)
MARKER = b"let this pass"


@pytest.fixture
async def fabric(namespace: str, tmp_path: Path) -> AsyncIterator[HostFabric]:
    """Its DHCP server's files lie where nobody but root may walk to."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    made = HostFabric(namespace, dhcp_directory=closed / "dhcp", nameservers=["10.0.0.53"])
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def guests(fabric: HostFabric, plan: NetworkPlan) -> AsyncIterator[tuple[Guest, Guest]]:
    """One that asks, and a neighbour."""
    await fabric.ensure_network(plan)
    await fabric.apply_rules(build_rules([plan], [ASKING, PLAIN]))
    asking, plain = [Guest(await fabric.open_tap(port.tap, port.bridge), port.mac, port.ip) for port in (ASKING, PLAIN)]
    yield asking, plain
    for guest in (asking, plain):
        guest.close()


def discover(mac: str, kind: int = 1, **options: bytes) -> bytes:
    """A question of RFC 2131: ``kind`` 1 is DISCOVER, 3 is REQUEST."""
    head = struct.pack("!BBBBIHHIIII", 1, 1, 6, 0, 0x12345678, 0, 0x8000, 0, 0, 0, 0)
    body = head + mac_bytes(mac) + bytes(10 + 64 + 128) + bytes.fromhex("63825363") + bytes([53, 1, kind])
    for code, value in ((50, options.get("wanted")), (54, options.get("server"))):
        if value is not None:
            body += bytes([code, len(value)]) + value
    return body + b"\xff" + bytes(60)


def ask(guest: Guest, payload: bytes, source: str = "0.0.0.0", port: int = 68) -> None:
    guest.send(ethernet(guest.mac, BROADCAST, 0x0800, ipv4(source, "255.255.255.255", 17, udp(port, 67, payload))))


async def receive_answer(guest: Guest) -> tuple[int, str, bytes]:
    """Its kind (2 is OFFER, 5 is ACK), the address that it gives, and the whole."""
    async with asyncio.timeout(10):
        frame = (await guest.receive_until(bytes.fromhex("63825363")))[-1]
    reply = frame[14 + 20 + 8 :]
    kind = reply[240:].split(bytes([53, 1]), 1)[1][0]
    return kind, str(IPv4Address(reply[16:20])), reply


async def test_it_is_given_the_address_that_was_chosen(
    fabric: HostFabric, plan: NetworkPlan, guests: tuple[Guest, Guest]
) -> None:
    asking, _ = guests
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE,))])
    kind, ip, reply = await offer_of(asking)
    assert (kind, ip) == (2, ASKING.ip)
    assert plan.gateway.packed in reply and IPv4Address("10.0.0.53").packed in reply
    ask(asking, discover(asking.mac, 3, wanted=IPv4Address(ASKING.ip).packed, server=plan.gateway.packed))
    assert (await receive_answer(asking))[:2] == (5, ASKING.ip)
    # Another one that never gave this lease confirms it to who has it.
    await fabric.serve_dhcp([])
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE,))])
    await offer_of(asking)
    ask(asking, discover(asking.mac, 3, wanted=IPv4Address(ASKING.ip).packed))
    assert (await receive_answer(asking))[:2] == (5, ASKING.ip)


async def offer_of(guest: Guest) -> tuple[int, str, bytes]:
    """It begins to listen a moment after it was started, as a guest asks again."""
    async with asyncio.timeout(20):
        while True:
            ask(guest, discover(guest.mac))
            try:
                async with asyncio.timeout(1):
                    return await receive_answer(guest)
            except TimeoutError:
                continue


async def test_nobody_else_is_asked_and_nobody_else_may_ask(
    fabric: HostFabric, plan: NetworkPlan, guests: tuple[Guest, Guest], namespace: str
) -> None:
    asking, plain = guests
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE, Lease(ip=PLAIN.ip, mac=PLAIN.mac)))])
    await offer_of(asking)
    ask(plain, discover(plain.mac))
    ask(plain, discover(asking.mac))
    asking.send(ethernet(asking.mac, BROADCAST, 0x0806, arp_reply(asking.mac, "192.168.127.77", BROADCAST, PLAIN.ip)))
    ask(asking, discover(asking.mac), source="192.168.127.77")
    ask(asking, MARKER + b" not from another port", port=4000)
    ask(asking, discover(asking.mac))
    await receive_answer(asking)  # whoever had asked before would have been answered before
    asking.send(ethernet(asking.mac, plain.mac, 0x0800, ipv4(asking.ip, plain.ip, 17, udp(4000, 4000, MARKER))))
    seen = await plain.receive_until(MARKER)
    assert not [frame for frame in seen if frame[42 + 16 : 42 + 20] == IPv4Address(PLAIN.ip).packed]
    assert len([frame for frame in seen if MARKER in frame]) == 1
    assert not [frame for frame in seen if bytes.fromhex("63825363") in frame and frame[14 + 20 : 14 + 22] == b"\x00\x44"]


async def test_before_its_address_is_known_it_may_say_nothing_else(
    fabric: HostFabric, plan: NetworkPlan, guests: tuple[Guest, Guest]
) -> None:
    asking, plain = guests
    await fabric.apply_rules(build_rules([plan], [msgspec.structs.replace(ASKING, ip=""), PLAIN]))
    for _ in range(3):
        asking.send(ethernet(asking.mac, plain.mac, 0x0800, ipv4(asking.ip, plain.ip, 17, udp(4000, 4000, b"a lie"))))
        asking.send(ethernet(asking.mac, BROADCAST, 0x0806, arp_reply(asking.mac, asking.ip, plain.mac, plain.ip)))
    await fabric.apply_rules(build_rules([plan], [ASKING, PLAIN]))
    asking.send(ethernet(asking.mac, plain.mac, 0x0800, ipv4(asking.ip, plain.ip, 17, udp(4000, 4000, MARKER))))
    seen = await plain.receive_until(MARKER)
    assert not [
        frame for frame in seen if b"a lie" in frame or (mac_bytes(asking.mac) in frame[:14] and frame[12:14] == b"\x08\x06")
    ]


async def list_servers(namespace: str) -> list[int]:
    done = await run(["ip", "netns", "pids", namespace], timeout_s=10)
    return [pid for pid in map(int, done.stdout.split()) if "dnsmasq" in read_proc(pid, "cmdline")]


def read_proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_it_runs_while_somebody_is_to_be_served_as_nobody(
    fabric: HostFabric, plan: NetworkPlan, guests: tuple[Guest, Guest], namespace: str
) -> None:
    asking, _ = guests
    assert await list_servers(namespace) == []
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE,))])
    await offer_of(asking)
    [first] = await list_servers(namespace)
    status = read_proc(first, "status")
    assert status.split("Uid:")[1].split()[0] != "0"
    os.kill(first, signal.SIGKILL)
    await offer_of(asking)
    [second] = await list_servers(namespace)
    assert second != first, "it is started again"
    await fabric.serve_dhcp([Served(plan=plan, leases=())])
    assert await list_servers(namespace) == []
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE,))])
    assert len(await list_servers(namespace)) == 1
    await fabric.close()
    assert await list_servers(namespace) == []
    await fabric.open()


async def test_what_a_killed_volantd_left_is_replaced(
    fabric: HostFabric, plan: NetworkPlan, guests: tuple[Guest, Guest], namespace: str, tmp_path: Path
) -> None:
    await fabric.serve_dhcp([Served(plan=plan, leases=(LEASE,))])
    [left] = await list_servers(namespace)
    end_earlier(tmp_path / "closed" / "dhcp")
    [new] = await wait_for_another(namespace, left)
    assert new != left
    end_earlier(tmp_path / "nothing")


async def wait_for_another(namespace: str, left: int) -> list[int]:
    async with asyncio.timeout(20):
        while True:
            found = await list_servers(namespace)
            if found not in ([left], []):
                return found
            await asyncio.sleep(0.02)  # another process's work


async def test_a_bridge_of_somebody_elses_is_joined_and_left_as_it_is(fabric: HostFabric, namespace: str) -> None:
    theirs = NetworkPlan(bridge="br9", gateway=IPv4Address(0), prefix_length=32, is_ours=False)
    with pytest.raises(NotFound, match="no bridge br9"):
        await fabric.ensure_network(theirs)
    await run(["ip", "-n", namespace, "link", "add", "br9", "type", "bridge"], timeout_s=10)
    before = await describe_bridge(namespace)
    await fabric.ensure_network(theirs)
    await fabric.apply_rules(build_rules([theirs], [msgspec.structs.replace(ASKING, bridge="br9")]))
    os.close(await fabric.open_tap("vt-theirs", "br9"))
    await fabric.remove_tap("vt-theirs")
    await fabric.remove_network(theirs)
    assert await describe_bridge(namespace) == before


async def describe_bridge(namespace: str) -> dict[str, object]:
    [found] = json.loads((await run(["ip", "-n", namespace, "-j", "address", "show", "br9"], timeout_s=10)).stdout)
    return {"mtu": found["mtu"], "addresses": found["addr_info"], "up": "UP" in found["flags"]}
