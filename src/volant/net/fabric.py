"""The Fabric contract, and the one that changes this host. Every method may be repeated, after a crash at any point too."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from volant.core.address import TAP_PREFIX, check_bridge_name, check_tap_name
from volant.core.errors import HostError, InUse, NotFound, WrongState
from volant.net.collision import describe_collisions
from volant.net.dhcp import DhcpServer, Served
from volant.net.links import Link, Links
from volant.net.namespace import NamespaceThread, ensure_namespace
from volant.net.nft import Nft, describe_forward_drops, installed_digest
from volant.net.plan import NetworkPlan
from volant.net.rules import Port, Ruleset, extend_rules
from volant.net.socket import adopt_socket, listen, make_connection_socket
from volant.net.tap import open_tap_device
from volant.net.traffic import read_tap_traffic

OWNER_SOCKET = "\0volant-fabric"
"""An abstract socket, which is a name in one network namespace that the kernel frees when its process ends (unix(7))."""

SYSCTLS = Path("/proc/sys/net")
DHCP_DIRECTORY = Path("/var/lib/volant/dhcp")

ARP_RETRY_MS = 100
ARP_PROBES = 30
"""For as long as by default, 3 s, but ten times as often: a guest that wakes has missed what was asked while it slept."""


class Fabric(Protocol):
    """The wires and rules of one network namespace. Every method raises HostError when the host does not do what it is told."""

    async def open(self) -> None:
        """Get ready, and make the namespace. Changes nothing in it."""
        ...

    async def close(self) -> None:
        """Let go. Everything that was made stays."""
        ...

    async def ensure_network(self, plan: NetworkPlan) -> None:
        """Bridge, gateway address and forwarding as ``plan`` says.

        Raises:
            WrongState: an interface that is not ours has the bridge's name, or another volantd makes networks here.
            NotFound: it is to be somebody else's bridge, and there is none.
        """
        ...

    async def serve_dhcp(self, served: Sequence[Served]) -> None:
        """Give guests on these networks the addresses that were chosen for them when they ask; answer nobody else.

        It ends with ``close``.
        """
        ...

    async def remove_network(self, plan: NetworkPlan) -> None:
        """Remove the bridge; do nothing when it is gone or not ours.

        Raises:
            InUse: taps are connected to it.
        """
        ...

    async def open_tap(self, name: str, bridge: str) -> int:
        """Make the tap ``name``, connected to ``bridge`` and up.

        The descriptor is the caller's, is not inherited by programs that are started, and speaks with a virtio-net header.
        The tap goes with the last copy of it.

        Raises:
            WrongState: somebody holds a tap of that name. NotFound: there is no such bridge.
        """
        ...

    async def list_taps(self) -> set[str]: ...

    async def remove_tap(self, name: str) -> None:
        """Remove a tap, held or not; do nothing when it is gone."""
        ...

    async def apply_rules(self, ruleset: Ruleset) -> None:
        """Make ``ruleset`` what is installed, in one transaction, unless it is installed already."""
        ...

    async def extend_rules(self, ports: Sequence[Port]) -> bool:
        """Let ``ports`` speak too, beside those of the rules that were applied last. False, and nothing done, when it is not
        known what is installed: then they are to be applied whole."""
        ...

    async def open_listener(self, port: int) -> socket.socket:
        """A TCP socket that listens on ``port`` of every address here, IPv4, and does not block. The caller closes it.

        Raises:
            InUse: another program has the port.
        """
        ...

    async def open_connection_socket(self) -> socket.socket:
        """A TCP socket to connect to a guest with. It does not block; the caller closes it."""
        ...

    async def read_traffic(self) -> dict[str, int]:
        """By tap, how many packets its guest has sent since the tap was made."""
        ...

    async def find_collisions(self, plan: NetworkPlan) -> list[str]:
        """The addresses and routes, other than the bridge's own, that overlap the plan's subnet; a phrase each."""
        ...

    async def find_forward_drops(self) -> list[str]:
        """Other programs' rules that may drop what guests send and receive through this host; a sentence each."""
        ...


class HostFabric:
    """Implements Fabric in the network namespace ``namespace``; ``None`` is the one that this process is in."""

    def __init__(
        self, namespace: str | None = None, *, dhcp_directory: Path = DHCP_DIRECTORY, nameservers: Sequence[str] = ()
    ) -> None:
        """``dhcp_directory`` holds what a DHCP server needs; ``nameservers`` are what it names to guests."""
        self._namespace = namespace
        self._dhcp = DhcpServer(dhcp_directory, namespace, nameservers)
        self._thread: NamespaceThread | None = None
        self._links: Links | None = None
        self._nft = Nft(namespace)
        self._owner: socket.socket | None = None
        self._owning = asyncio.Lock()
        self._ruling = asyncio.Lock()
        self._applied_digest: str | None = None

    async def open(self) -> None:
        if self._namespace is not None:
            await ensure_namespace(self._namespace)
        thread = NamespaceThread(self._namespace)
        await thread.start()
        try:
            self._links = await Links.open(thread)
        except BaseException:
            await thread.stop()
            raise
        self._thread = thread

    async def close(self) -> None:
        await self._dhcp.close()
        if self._links is not None:
            self._links.close()
            self._links = None
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        if self._thread is not None:
            await self._thread.stop()
            self._thread = None

    async def ensure_network(self, plan: NetworkPlan) -> None:
        check_bridge_name(plan.bridge)
        thread, links = await self._own()
        if self._namespace is not None:
            await self._ensure_up(await self._find(links, "lo"))
        bridge = await links.find(plan.bridge)
        if not plan.is_ours:
            if bridge is None or bridge.kind != "bridge":
                raise NotFound(
                    f"there is no bridge {plan.bridge}, which somebody else was to make", hint="ip link show type bridge"
                )
            return
        if bridge is None:
            bridge = await links.add_bridge(plan.bridge, plan.mac)
        if not _is_ours(bridge, plan):
            raise WrongState(
                f"an interface named {plan.bridge} exists and is not a bridge of ours",
                hint="choose another name for the bridge, or remove that interface",
            )
        # Guests have no IPv6 yet, so the host shall not speak it to them either.
        await thread.call(_write_sysctl, f"ipv6/conf/{plan.bridge}/disable_ipv6", "1")
        await thread.call(_write_sysctl, "ipv4/ip_forward", "1")
        await thread.call(_write_sysctl, f"ipv4/neigh/{plan.bridge}/retrans_time_ms", str(ARP_RETRY_MS))
        for kind in ("mcast", "ucast"):
            await thread.call(_write_sysctl, f"ipv4/neigh/{plan.bridge}/{kind}_solicit", str(ARP_PROBES))
        if bridge.mtu != plan.mtu:
            await links.change(bridge, mtu=plan.mtu)
        have = [address for index, address in await links.list_addresses() if index == bridge.index]
        if plan.interface not in have:
            await links.add_address(bridge, plan.interface)
        for address in have:
            if address != plan.interface:
                await links.remove_address(bridge, address)
        await self._ensure_up(bridge)

    async def serve_dhcp(self, served: Sequence[Served]) -> None:
        await self._own()
        await self._dhcp.serve(served)

    async def remove_network(self, plan: NetworkPlan) -> None:
        _, links = await self._own()
        if not plan.is_ours:
            return
        bridge = await links.find(plan.bridge)
        if bridge is None or not _is_ours(bridge, plan):
            return
        ports = sorted(link.name for link in await links.list_links() if link.master == bridge.index)
        if ports:
            raise InUse(f"bridge {plan.bridge} has {len(ports)} ports, {ports[0]} among them", hint="delete the VMs first")
        await links.remove(bridge)

    async def open_tap(self, name: str, bridge: str) -> int:
        check_tap_name(name)
        thread, links = await self._own()
        master = await links.find(bridge)
        if master is None:
            raise NotFound(f"there is no bridge {bridge} to connect {name} to")
        descriptor = await thread.make_descriptor(_make_quiet_tap, name)
        try:
            tap = await self._find(links, name)
            await links.change(tap, master=master.index, mtu=master.mtu, state="up")
        except BaseException:
            # Closing waits for the kernel to take the tap down, which does not belong on the loop; nor can it be cancelled.
            await asyncio.shield(asyncio.ensure_future(thread.call(os.close, descriptor)))
            raise
        return descriptor

    async def list_taps(self) -> set[str]:
        thread, _ = self._opened()
        return {name for _, name in await thread.call(socket.if_nameindex) if name.startswith(TAP_PREFIX)}

    async def remove_tap(self, name: str) -> None:
        check_tap_name(name)
        _, links = await self._own()
        tap = await links.find(name)
        if tap is not None:
            await links.remove(tap)

    async def apply_rules(self, ruleset: Ruleset) -> None:
        await self._own()
        async with self._ruling:
            # Rules that differ from those we applied last are not installed, and need no look; others may have been taken away.
            if self._applied_digest in (None, ruleset.digest):
                self._applied_digest = installed_digest(await self._nft.list_chains())
            if self._applied_digest != ruleset.digest:
                self._applied_digest = None
                await self._nft.apply(ruleset)
                self._applied_digest = ruleset.digest

    async def extend_rules(self, ports: Sequence[Port]) -> bool:
        await self._own()
        async with self._ruling:
            if not self._applied_digest:
                return False
            ruleset = extend_rules(self._applied_digest, ports)
            self._applied_digest = None
            await self._nft.apply(ruleset)
            self._applied_digest = ruleset.digest
            return True

    async def open_listener(self, port: int) -> socket.socket:
        thread, _ = self._opened()
        return adopt_socket(await thread.make_descriptor(listen, port))

    async def open_connection_socket(self) -> socket.socket:
        # A socket stays in the namespace that it was made in.
        thread, _ = self._opened()
        return adopt_socket(await thread.make_descriptor(make_connection_socket))

    async def read_traffic(self) -> dict[str, int]:
        thread, _ = self._opened()
        return await thread.call(read_tap_traffic)

    async def find_collisions(self, plan: NetworkPlan) -> list[str]:
        _, links = self._opened()
        found = await links.list_links()
        ours = next((link.index for link in found if link.name == plan.bridge and _is_ours(link, plan)), 0)
        addresses, routes = await links.list_addresses(), await links.list_routes()
        return list(describe_collisions(plan.subnet, ours, found, addresses, routes))

    async def find_forward_drops(self) -> list[str]:
        self._opened()
        return describe_forward_drops(await self._nft.list_chains())

    def _opened(self) -> tuple[NamespaceThread, Links]:
        assert self._thread is not None and self._links is not None, "the fabric is not open"
        return self._thread, self._links

    async def _own(self) -> tuple[NamespaceThread, Links]:
        """Be the only one to change this namespace, from the first change until ``close``.

        Two that did would undo each other's rules. Looking around needs no ownership.
        """
        thread, links = self._opened()
        async with self._owning:
            if self._owner is None:
                self._owner = await thread.call(_bind_owner_socket)
        return thread, links

    async def _ensure_up(self, link: Link) -> None:
        if not link.up:
            await self._opened()[1].change(link, state="up")

    @staticmethod
    async def _find(links: Links, name: str) -> Link:
        link = await links.find(name)
        if link is None:
            raise HostError(f"interface {name} is gone")
        return link


def _is_ours(link: Link, plan: NetworkPlan) -> bool:
    return link.kind == "bridge" and link.mac == plan.mac


def _make_quiet_tap(name: str) -> int:
    descriptor = open_tap_device(name)
    try:
        # Before it is up: its own end would announce itself to the guest by IPv6.
        _write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_sysctl(name: str, value: str) -> None:
    """A setting of the calling thread's namespace; one that this kernel does not have has nothing to be switched off."""
    path = SYSCTLS / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"{path} cannot be set to {value}: {error.strerror}", hint="volantd needs to be root") from error


def _bind_owner_socket() -> socket.socket:
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        owner.bind(OWNER_SOCKET)
    except OSError as error:
        owner.close()
        if error.errno == errno.EADDRINUSE:
            raise WrongState(
                "another volantd makes networks in this network namespace",
                hint="end that one, or give this one a --network-namespace of its own",
            ) from error
        raise HostError(f"the network namespace cannot be reserved: {error.strerror}") from error
    return owner
