"""Which networks a download may come from, however it was named: by whoever asked, by a manifest, by a redirect.

The internet, and beyond it what the host's operator allows. Link-local addresses (where clouds keep their metadata), multicast
and reserved ones are never spoken to.
"""

from __future__ import annotations

import ipaddress

import msgspec

from volant.core.errors import InvalidInput

FIELD = "plugin_download_allow"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Allowance(msgspec.Struct, frozen=True):
    """``hosts`` by name, with or without a port; ``networks`` by address."""

    private: bool = False
    loopback: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def names(self, host: str, port: int) -> bool:
        """True for a host that may be wherever its name says, but where nobody may be."""
        bare = host.strip("[]").lower()
        return bool({bare, f"{bare}:{port}"} & self.hosts)

    def holds(self, address: str) -> bool:
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return any((mapped or found) in network for network in self.networks)

    def with_hosts(self, hosts: frozenset[str]) -> Allowance:
        """Also those that the operator named elsewhere."""
        return msgspec.structs.replace(self, hosts=self.hosts | {host.lower() for host in hosts})


def read_allowance(text: str) -> Allowance:
    """``private``, ``loopback``, hosts (``registry.lan``, ``registry.lan:5000``), networks (``10.1.0.0/16``), apart by spaces or
    commas. Empty is the internet alone. Raises InvalidInput."""
    hosts: set[str] = set()
    networks: list[Network] = []
    words = text.replace(",", " ").split()
    for word in words:
        if word in ("private", "loopback"):
            continue
        if "/" in word:
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError as error:
                raise _refuse(word) from error
            continue
        name, port = _split(word)
        if not name or len(word) > 255 or not (word.isascii() and word.isprintable()) or set(word) & set("@?#\\*"):
            raise _refuse(word)
        hosts.add(name.lower() if port is None else f"{name.lower()}:{port}")
    return Allowance(private="private" in words, loopback="loopback" in words, hosts=frozenset(hosts), networks=tuple(networks))


def _split(word: str) -> tuple[str, int | None]:
    """Host and port; an IPv6 address with a port stands in brackets."""
    name, colon, port = word.rpartition(":")
    if not colon or not port.isdecimal() or (":" in name and not name.endswith("]")):
        return word.strip("[]"), None
    return name.strip("[]"), int(port)


def _refuse(word: str) -> InvalidInput:
    return InvalidInput(
        f"{word[:80]!r} is nothing that downloads can be allowed from", field=FIELD,
        hint="private, loopback, HOST, HOST:PORT, or a network as in 10.1.0.0/16",
    )  # fmt: skip
