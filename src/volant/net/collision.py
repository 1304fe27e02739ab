"""Whether a subnet that is to be ours is somebody's already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network

from volant.net.links import Link


def describe_collisions(
    subnet: IPv4Network,
    ours: int,
    links: Sequence[Link],
    addresses: Sequence[tuple[int, IPv4Interface]],
    routes: Sequence[tuple[int, IPv4Network]],
) -> Iterator[str]:
    """One line for each address and route that overlaps ``subnet`` and is not on the interface whose index is ``ours``.

    A default route overlaps everything and harms nothing. A route that only says what an address says already is left out.
    """
    names = {link.index: link.name for link in links}
    taken: set[tuple[int, IPv4Network]] = set()
    for index, address in addresses:
        if index != ours and address.network.overlaps(subnet):
            taken.add((index, address.network))
            yield f"address {address} on {names.get(index, index)}"
    for index, network in routes:
        if index == ours or network.prefixlen == 0 or (index, network) in taken or not network.overlaps(subnet):
            continue
        yield f"route {network} by {names.get(index, 'several interfaces')}"
