"""What a simulated guest's cards are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from volant.guest.document import Document, Interface


class SimulatedNetwork:
    """``notice`` is what the agent tells of it; None while there is nothing to tell."""

    def __init__(self) -> None:
        self.ask: Callable[[str], str] = lambda mac: ""
        """What a DHCP server gives the card with this address at once, with its prefix length; empty when none answers."""
        self.interfaces: tuple[Interface, ...] = ()
        self.notice: dict[str, Any] | None = None

    def hold(self, document: Document) -> None:
        """The cards are those of ``document`` from now on."""
        self.interfaces = document.network.interfaces
        given = {card.mac: self.ask(card.mac) for card in self._asking()}
        told = [{"name": card.name, "mac": card.mac, "address": given[card.mac], "source": "dhcp"} for card in self._asking()]
        self.notice = {"type": "network", "interfaces": told} if any(given.values()) else None

    def give_lease(self, address: str, gateway: str, lease_s: int) -> None:
        """Every card that asks by DHCP is given ``address``, with its prefix length; "" takes it back."""
        self.notice = {
            "type": "network",
            "interfaces": [
                {
                    "name": card.name, "mac": card.mac, "address": address, "gateway": gateway, "nameservers": [],
                    "source": "dhcp", "lease_s": lease_s,
                }
                for card in self._asking()
            ],
        }  # fmt: skip

    def _asking(self) -> list[Interface]:
        return [card for card in self.interfaces if card.dhcp]
