"""The network cards of a VM that is asked for: in which networks, with which addresses, and the claims that keep them its own."""

from __future__ import annotations

import msgspec

from volant.core.address import parse_subnet
from volant.core.cards import MAX_CARDS, card_mac, card_networks
from volant.core.claim import Claim, ClaimSpec, build_claim, ip_claim_name, mac_claim_name
from volant.core.errors import Exhausted, InvalidInput
from volant.core.ids import Uid
from volant.core.network import Network
from volant.core.vm import VM, Address, AddressSource, VMSpec
from volant.store.contract import Key, Store
from volant.store.records import find_resource


class CardChooser:
    """Chooses addresses that nobody had claimed a moment ago. The claims decide; this only remembers what it gave last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_host: dict[str, int] = {}

    async def find_networks(self, spec: VMSpec, project: str) -> tuple[Network, ...]:
        """The network of each card of ``spec``.

        Raises:
            InvalidInput: there is no such network, too many of them, or one that another mode is needed for.
        """
        names = card_networks(spec)
        if spec.network_mode == "vsock" and spec.extra_networks:
            raise InvalidInput(
                "network mode vsock is to have no network card", field="extra_networks", hint="take another network_mode"
            )
        if len(names) > MAX_CARDS:
            raise InvalidInput(f"a VM has at most {MAX_CARDS} network cards", field="extra_networks")
        found: list[Network] = []
        for index, name in enumerate(names):
            field = "network" if index == 0 else "extra_networks"
            network = await find_resource(self._store, Network, project, name)
            if network is None or network.deleting:
                raise InvalidInput(
                    f"there is no network named {name[:80]!r}", field=field, hint="volar networks list shows those there are"
                )
            if index == 0 and network.spec.dhcp == "external" and spec.network_mode != "dhcp":
                raise InvalidInput(
                    f"addresses in network {name!r} are given by somebody else's DHCP server",
                    field="network_mode",
                    hint="ask for network_mode dhcp",
                )
            found.append(network)
        return tuple(found)

    async def fit_mode(self, asked: VMSpec, spec: VMSpec, project: str) -> VMSpec:
        """``spec`` in the only mode that its network has, unless ``asked`` is for another."""
        if asked.network_mode is None and spec.network_mode == "bridged":
            network = await find_resource(self._store, Network, project, spec.network)
            if network is not None and network.spec.dhcp == "external":
                return msgspec.structs.replace(spec, network_mode="dhcp")
        return spec

    async def choose(
        self, uid: Uid, spec: VMSpec, networks: tuple[Network, ...], have: tuple[Address, ...] = ()
    ) -> tuple[Address, ...]:
        """The cards of the VM ``uid``: those that it has already, and more with the next address after the one given last, so
        that none is used again soon.

        Raises:
            Exhausted: a network has no address left.
        """
        cards: list[Address] = []
        for index, network in enumerate(networks):
            if index < len(have) and have[index].network == network.name:
                cards.append(have[index])
                continue
            if network.spec.dhcp == "external":
                mac = card_mac(uid, index)
                cards.append(Address(network=network.name, ip="", mac=mac, prefix_length=0, gateway="", source="external"))
                continue
            taken = {card.ip for card in cards if card.network == network.name}
            # Only the first has a way to the world, and so only that one need ask for it.
            source: AddressSource = "dhcp" if index == 0 and spec.network_mode == "dhcp" else "static"
            cards.append(await self._choose_one(network, card_mac(uid, index), source, taken))
        return tuple(cards)

    async def _choose_one(self, network: Network, mac: str, source: AddressSource, taken: set[str]) -> Address:
        plan = parse_subnet(network.spec.subnet)
        start = self._next_host.get(network.uid, 0)
        for step in range(plan.capacity):
            index = (start + step) % plan.capacity
            ip = str(plan.gateway + 1 + index)
            if ip not in taken and await self._store.get(Key(Claim.kind, "", ip_claim_name(network.name, ip))) is None:
                # Only a hint: the claim decides, and a new volantd begins at the first.
                self._next_host[network.uid] = index + 1
                return Address(
                    network=network.name,
                    ip=ip,
                    mac=mac,
                    prefix_length=plan.prefix_length,
                    gateway=str(plan.gateway),
                    source=source,
                )
        raise Exhausted(
            f"network {network.name!r} ({network.spec.subnet}) has no address left",
            hint="delete a VM, or give the network a larger subnet",
        )


def address_claims(vm: VM, created_at: str) -> list[Claim]:
    """One for each address that its cards have already."""
    return [_claim(vm, ip_claim_name(card.network, card.ip), "ip", created_at) for card in vm.status.addresses if card.ip]


def mac_claims(vm: VM, created_at: str) -> list[Claim]:
    return [_claim(vm, mac_claim_name(card.mac), "mac", created_at) for card in vm.status.addresses]


def _claim(vm: VM, name: str, thing: str, now: str) -> Claim:
    return build_claim(name, ClaimSpec(thing=thing, owner_kind=VM.kind, owner_name=vm.name, owner_uid=vm.uid), now)
