"""A VM's network cards: how many it has and what each is called, by its uid alone, so that intent and the hands agree."""

from __future__ import annotations

from volant.core.address import TAP_PREFIX, mac_from_seed, mac_from_uid, tap_name
from volant.core.ids import Uid
from volant.core.vm import VM, Address, VMSpec

MAX_CARDS = 8
"""As many as a guest is told of."""


def card_networks(spec: VMSpec) -> tuple[str, ...]:
    """The network of each card, the first card's first; none for a VM that is reached by its channel alone."""
    return () if spec.network_mode == "vsock" else (spec.network, *spec.extra_networks)


def card_mac(uid: Uid, index: int) -> str:
    """What the card ``index`` of the VM ``uid`` answers to, for ever."""
    return mac_from_uid(uid) if index == 0 else mac_from_seed(f"{uid} card {index}")


def card_tap(uid: Uid, index: int) -> str:
    """At most 15 bytes. The first is ``tap_name``; a further one has 40 random bits of the uid and its number."""
    if not 0 <= index < 16:
        raise ValueError(f"a VM has no card {index}")
    return tap_name(uid) if index == 0 else f"{TAP_PREFIX}{uid[:10]}.{index:x}"


def card_taps(vm: VM) -> list[str]:
    """The tap of each of its cards, in their order."""
    return [card_tap(vm.uid, index) for index in range(len(vm.status.addresses))]


def bare_cards(uid: Uid, spec: VMSpec) -> tuple[Address, ...]:
    """The cards of ``spec`` without an address: those of a guest that nobody is to reach yet."""
    return tuple(
        Address(network=network, ip="", mac=card_mac(uid, index), prefix_length=0, gateway="")
        for index, network in enumerate(card_networks(spec))
    )


def is_reached_by_channel(vm: VM) -> bool:
    """True when this host has no way to the guest but its channel: it has no card, or one in somebody else's network."""
    return not vm.status.addresses or vm.status.addresses[0].source == "external"
