"""What the fabric is told to make, as plain data."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from volant.core.address import mac_from_seed


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One network: ``gateway`` is the bridge's address, 0.0.0.0 where that is not known. ``mtu`` in bytes."""

    bridge: str
    gateway: IPv4Address
    prefix_length: int
    mtu: int = 1500
    is_ours: bool = True
    """False for a bridge that somebody else made and looks after: taps are connected to it, and that is all."""

    @property
    def interface(self) -> IPv4Interface:
        return IPv4Interface((self.gateway, self.prefix_length))

    @property
    def subnet(self) -> IPv4Network:
        return self.interface.network

    @property
    def mac(self) -> str:
        """The bridge's address: the same for ever, whatever ports come and go, so that guests need not ask again.

        It also tells our bridge from somebody else's of the same name, and is set in the request that makes it.
        """
        return mac_from_seed(f"bridge {self.bridge}")
