"""Where a redirect may lead: a registry on the internet must not make this machine ask its own network (SSRF)."""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import socket
import urllib.request
from collections.abc import Awaitable, Callable

from volant.artifact.registry.allowance import Allowance
from volant.artifact.registry.patience import Interrupted
from volant.artifact.registry.settings import is_loopback_host
from volant.core.errors import Forbidden

Lookup = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""The addresses of a host, best first; raises OSError."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Reach(enum.IntEnum):
    """From how far away an address can be reached; each may redirect to those before it, and to its own kind."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    NEVER = 3


def classify_address(text: str) -> Reach:
    """Link-local (where clouds keep their metadata), multicast, reserved and unspecified addresses are NEVER."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return classify_address(str(inner))
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return Reach.NEVER
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


class Destinations:
    """Decides, and says which addresses to connect to, so that a name cannot mean another one a moment later."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def measure_registry(self, scheme: str, host: str, port: int) -> Reach:
        """Of the registry that somebody named. One that cannot be found out counts as public, which may do the least."""
        try:
            return min((classify_address(a) for a in await self._find(scheme, host, port)), default=Reach.PUBLIC)
        except OSError:
            return Reach.PUBLIC

    async def check_named(self, scheme: str, host: str, port: int, allowance: Allowance | None) -> tuple[str, ...]:
        """The addresses of ``host`` that may be connected to; empty where that is left to the connection: without an allowance,
        and through a proxy, which looks the name up.

        Raises:
            Forbidden: one of its addresses is not allowed. Interrupted: the name is not known.
        """
        if allowance is None:
            return ()
        try:
            addresses = await self._find(scheme, host, port)
        except OSError as error:
            raise Interrupted(f"{host}: the name is not known ({error.strerror or error})") from error
        for address in addresses:
            reach = classify_address(address)
            if reach is Reach.PUBLIC or (reach is not Reach.NEVER and _is_allowed(allowance, host, port, address, reach)):
                continue
            raise Forbidden(
                f"{host} is not fetched from: {address} is a {_WORDS[reach]} address",
                hint=None if reach is Reach.NEVER else f"allow it: volantd --plugin-download-allow {host}",
            )
        return addresses

    async def check(self, scheme: str, host: str, port: int, registry: Reach) -> tuple[str, ...]:
        """The addresses that may be connected to; empty when a proxy looks the name up.

        Raises:
            Forbidden: one of its addresses lies where this registry may not send anybody. Interrupted: the name is not known.
        """
        try:
            addresses = await self._find(scheme, host, port)
        except OSError as error:
            raise Interrupted(f"{host}: the name is not known ({error.strerror or error})") from error
        for address in addresses:
            reach = classify_address(address)
            if reach is Reach.NEVER or reach > registry:
                raise Forbidden(
                    f"the registry sends to {host}, and {address} is a {_WORDS[reach]} address",
                    hint="a registry may send nobody into a network that it is not in itself; ask whoever runs it",
                )
        return addresses

    async def _find(self, scheme: str, host: str, port: int) -> tuple[str, ...]:
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            return () if find_proxy(scheme, host) is not None else await self._lookup(host, port)


def _is_allowed(allowance: Allowance, host: str, port: int, address: str, reach: Reach) -> bool:
    kind = allowance.private if reach is Reach.PRIVATE else allowance.loopback
    return kind or allowance.names(host, port) or allowance.holds(address)


_WORDS = {Reach.PRIVATE: "private", Reach.LOOPBACK: "loopback", Reach.NEVER: "link-local or reserved", Reach.PUBLIC: "public"}


def find_proxy(scheme: str, host: str) -> str | None:
    """The proxy that ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` name for ``host``; none for this machine."""
    proxies = urllib.request.getproxies_environment()
    if is_loopback_host(host) or urllib.request.proxy_bypass(host, proxies):
        return None
    return proxies.get(scheme) or proxies.get("all")


async def lookup_host(host: str, port: int) -> tuple[str, ...]:
    """As the host's resolver says, in the order of RFC 6724."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
