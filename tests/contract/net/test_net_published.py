"""Published ports, by connections that are really made: from another host, from this one, with the rule and without."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from volant.net.fabric import HostFabric
from volant.net.namespace import NamespaceThread
from volant.net.plan import NetworkPlan
from volant.net.rules import Forward, Port, build_rules
from volant.run import run

pytestmark = pytest.mark.vm

Enter = Callable[[str], Awaitable[NamespaceThread]]

GUEST = Port(tap="vt-a", bridge="vbr0", mac="02:00:00:00:00:01", ip="192.168.127.2")
OUTSIDE_IP, UPLINK_IP, GATEWAY = "203.0.113.2", "203.0.113.1", "192.168.127.1"
HOST_PORT, GUEST_PORT = 8080, 80
LIMIT_S = 10.0


def listen_on(port: int) -> socket.socket:
    listener = socket.create_server(("0.0.0.0", port), reuse_port=False)
    listener.setblocking(False)
    return listener


def make_client() -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    return client


@pytest.fixture
async def guest(
    host_fabric: HostFabric, namespace: str, new_namespace: Callable[[], str], enter: Enter, plan: NetworkPlan
) -> AsyncIterator[socket.socket]:
    """What a guest listens with: a namespace behind a cable that has a tap's name, so that a tap's rules hold for it."""
    await host_fabric.ensure_network(plan)
    name = new_namespace()
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "-n", namespace, "link", "add", GUEST.tap, "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "-n", namespace, "link", "set", GUEST.tap, "master", plan.bridge, "up"],
        ["ip", "-n", name, "link", "set", "eth0", "address", GUEST.mac, "up"],
        ["ip", "-n", name, "address", "add", f"{GUEST.ip}/24", "dev", "eth0"],
        ["ip", "-n", name, "route", "add", "default", "via", GATEWAY],
    ):
        await run(command, timeout_s=10)
    inside = await enter(name)
    with await inside.call(listen_on, GUEST_PORT) as listener:
        yield listener


@pytest.fixture
async def outside(new_namespace: Callable[[], str], namespace: str, enter: Enter) -> NamespaceThread:
    """Another host, that knows no way to guests."""
    name = new_namespace()
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "-n", namespace, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "-n", namespace, "address", "add", f"{UPLINK_IP}/24", "dev", "uplink"],
        ["ip", "-n", namespace, "link", "set", "uplink", "up"],
        ["ip", "-n", name, "address", "add", f"{OUTSIDE_IP}/24", "dev", "eth0"],
        ["ip", "-n", name, "link", "set", "eth0", "up"],
    ):
        await run(command, timeout_s=10)
    return await enter(name)


async def publish(fabric: HostFabric, plan: NetworkPlan, *forwards: Forward) -> None:
    await fabric.apply_rules(build_rules([plan], [GUEST], forwards))


FORWARD = Forward(HOST_PORT, GUEST.ip, GUEST_PORT)


async def exchange(client: socket.socket, target: str, listener: socket.socket) -> str:
    """Connect by ``target``, be accepted by ``listener``, speak both ways; return who the client is to the listener."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT_S):
        with client:
            await loop.sock_connect(client, (target, HOST_PORT))
            accepted, peer = await loop.sock_accept(listener)
            with accepted:
                await loop.sock_sendall(client, b"question")
                assert await loop.sock_recv(accepted, 100) == b"question"
                await loop.sock_sendall(accepted, b"answer")
                assert await loop.sock_recv(client, 100) == b"answer"
    return str(peer[0])


async def test_another_host_reaches_a_guest_and_is_seen_as_who_it_is(
    host_fabric: HostFabric, guest: socket.socket, outside: NamespaceThread, plan: NetworkPlan
) -> None:
    await publish(host_fabric, plan, FORWARD)
    assert await exchange(await outside.call(make_client), UPLINK_IP, guest) == OUTSIDE_IP


async def test_another_host_finds_the_listener_without_a_rule(
    host_fabric: HostFabric, guest: socket.socket, outside: NamespaceThread, plan: NetworkPlan
) -> None:
    await publish(host_fabric, plan)
    with await host_fabric.open_listener(HOST_PORT) as listener:
        assert await exchange(await outside.call(make_client), UPLINK_IP, listener) == OUTSIDE_IP


async def test_a_rule_that_comes_and_goes_breaks_no_connection(
    host_fabric: HostFabric, guest: socket.socket, outside: NamespaceThread, plan: NetworkPlan
) -> None:
    loop = asyncio.get_running_loop()
    with await host_fabric.open_listener(HOST_PORT) as listener:
        for first, then, taker in (([FORWARD], [], guest), ([], [FORWARD], listener)):
            await publish(host_fabric, plan, *first)
            async with asyncio.timeout(LIMIT_S):
                with await outside.call(make_client) as client:
                    await loop.sock_connect(client, (UPLINK_IP, HOST_PORT))
                    accepted, _ = await loop.sock_accept(taker)
                    with accepted:
                        await publish(host_fabric, plan, *then)
                        await loop.sock_sendall(client, b"still there?")
                        assert await loop.sock_recv(accepted, 100) == b"still there?"


@pytest.mark.parametrize("target", [UPLINK_IP, GATEWAY])
async def test_this_host_reaches_a_guest_by_its_own_addresses(
    host_fabric: HostFabric, guest: socket.socket, outside: NamespaceThread, plan: NetworkPlan, target: str
) -> None:
    await publish(host_fabric, plan, FORWARD)
    assert await exchange(await host_fabric.open_connection_socket(), target, guest) == target


@pytest.mark.parametrize("target", ["127.0.0.1", "127.1.2.3"])
async def test_the_loopback_finds_the_listener_with_a_rule_too(
    host_fabric: HostFabric, guest: socket.socket, plan: NetworkPlan, target: str
) -> None:
    await publish(host_fabric, plan, FORWARD)
    with await host_fabric.open_listener(HOST_PORT) as listener:
        assert await exchange(await host_fabric.open_connection_socket(), target, listener) == "127.0.0.1"


async def test_volantd_reaches_a_guest_from_inside(host_fabric: HostFabric, guest: socket.socket, plan: NetworkPlan) -> None:
    await publish(host_fabric, plan)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT_S):
        with await host_fabric.open_connection_socket() as client:
            await loop.sock_connect(client, (GUEST.ip, GUEST_PORT))
            accepted, peer = await loop.sock_accept(guest)
            accepted.close()
    assert peer[0] == GATEWAY


async def test_only_published_ports_lead_to_a_guest(
    host_fabric: HostFabric, guest: socket.socket, outside: NamespaceThread, plan: NetworkPlan
) -> None:
    await publish(host_fabric, plan, Forward(HOST_PORT + 1, GUEST.ip, GUEST_PORT))
    loop = asyncio.get_running_loop()
    with await outside.call(make_client) as client, pytest.raises(ConnectionRefusedError):
        async with asyncio.timeout(LIMIT_S):
            await loop.sock_connect(client, (UPLINK_IP, HOST_PORT))
