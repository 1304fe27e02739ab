"""Interfaces, addresses and routes of one network namespace, over rtnetlink(7)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import msgspec
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from volant.core.errors import CommandFailed, HostError
from volant.net.namespace import NamespaceThread
from volant.run import run

ANSWER_TIMEOUT_S = 10.0
MAIN_TABLE = 254
UNICAST = 1


class Link(msgspec.Struct, frozen=True):
    """``kind`` is empty for hardware and the loopback; ``master`` is the index of the bridge it is a port of, or 0."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    master: int


class Links:
    """Every method raises HostError when the kernel refuses or does not answer."""

    def __init__(self, iproute: AsyncIPRoute, namespace: str | None) -> None:
        self._iproute = iproute
        self._namespace = namespace

    @classmethod
    async def open(cls, thread: NamespaceThread) -> Links:
        """Talk to the namespace that ``thread`` is in: a netlink socket belongs to the one that it was made in."""
        descriptor = await thread.make_descriptor(_make_socket)
        iproute = AsyncIPRoute(fileno=descriptor)
        await iproute.setup_endpoint()  # from here on it owns the descriptor
        return cls(iproute, thread.namespace)

    def close(self) -> None:
        self._iproute.close()

    async def find(self, name: str) -> Link | None:
        async with _answer(f"interface {name} cannot be looked up"):
            try:
                messages = await self._iproute.link("get", ifname=name)
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise
        return _read_link(messages[0])

    async def list_links(self) -> list[Link]:
        async with _answer("interfaces cannot be listed"):
            return [_read_link(message) async for message in await self._iproute.link("dump")]

    async def add_bridge(self, name: str, mac: str) -> Link:
        """A bridge without spanning tree, whose ports forward at once. Raises HostError also when the name is taken.

        It learns nothing from frames to groups that bridges do not forward: those come in past every rule, so that a guest
        could draw another's traffic to itself with one of them. pyroute2 knows no name for that option, ip(8) does.
        """
        command = ["ip", *(() if self._namespace is None else ("-n", self._namespace))]
        command += ["link", "add", "name", name, "address", mac, "type", "bridge"]
        command += ["stp_state", "0", "forward_delay", "0", "mcast_snooping", "0", "no_linklocal_learn", "1"]
        try:
            await run(command, timeout_s=ANSWER_TIMEOUT_S)
        except CommandFailed as error:
            raise HostError(f"bridge {name} cannot be made: {error}") from error
        link = await self.find(name)
        if link is None:
            raise HostError(f"bridge {name} went as soon as it was made")
        return link

    async def change(self, link: Link, **wanted: int | str) -> None:
        """Set ``state`` (``up``), ``mtu`` (bytes) or ``master`` (an index) in one request."""
        async with _answer(f"interface {link.name} cannot be changed"):
            await self._iproute.link("set", index=link.index, **wanted)

    async def remove(self, link: Link) -> None:
        """Do nothing when it is gone."""
        async with _answer(f"interface {link.name} cannot be removed"):
            with _already(errno.ENODEV):
                await self._iproute.link("del", index=link.index)

    async def list_addresses(self) -> list[tuple[int, IPv4Interface]]:
        """Every IPv4 address with the index of its interface."""
        async with _answer("addresses cannot be listed"):
            return [
                (message["index"], IPv4Interface((message.get("local") or message.get("address"), message["prefixlen"])))
                async for message in await self._iproute.addr("dump", family=socket.AF_INET)
            ]

    async def add_address(self, link: Link, address: IPv4Interface) -> None:
        async with _answer(f"{address} cannot be added to {link.name}"):
            with _already(errno.EEXIST):
                await self._iproute.addr(
                    "add",
                    index=link.index,
                    address=str(address.ip),
                    prefixlen=address.network.prefixlen,
                    broadcast=str(address.network.broadcast_address),
                )

    async def remove_address(self, link: Link, address: IPv4Interface) -> None:
        async with _answer(f"{address} cannot be removed from {link.name}"):
            with _already(errno.EADDRNOTAVAIL):
                await self._iproute.addr("del", index=link.index, address=str(address.ip), prefixlen=address.network.prefixlen)

    async def list_routes(self) -> list[tuple[int, IPv4Network]]:
        """The unicast IPv4 routes of the main table, each with the index of its interface (0 for several hops)."""
        async with _answer("routes cannot be listed"):
            return [
                (message.get("oif") or 0, IPv4Network((message.get("dst") or IPv4Address(0), message["dst_len"])))
                async for message in await self._iproute.route("dump", family=socket.AF_INET)
                if message.get("table") == MAIN_TABLE and message["type"] == UNICAST
            ]


def _make_socket() -> int:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE).detach()


def _read_link(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get("ifname"),
        kind=message.get(("linkinfo", "kind")) or "",
        mac=message.get("address") or "",
        mtu=message.get("mtu") or 0,
        up=message["state"] == "up",
        master=message.get("master") or 0,
    )


@asynccontextmanager
async def _answer(failure: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            yield
    except NetlinkError as error:
        hint = "volantd needs to be root" if error.code == errno.EPERM else None
        raise HostError(f"{failure}: {error.args[-1]}", hint=hint) from error
    except TimeoutError as error:
        raise HostError(f"{failure}: the kernel did not answer in {ANSWER_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise HostError(f"{failure}: {error.strerror}") from error


@contextmanager
def _already(code: int) -> Iterator[None]:
    """What is asked for is so already when the kernel says ``code``."""
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise
