"""What guests say that the network gave them, believed as far as it can be: an address is a VM's once it is claimed for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface, IPv4Network

import msgspec
import structlog

from volant.core.claim import Claim, ClaimSpec, build_claim, ip_claim_name
from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import AlreadyExists, NotFound
from volant.core.network import Network
from volant.core.vm import NETWORK_READY, VM, Address
from volant.guest.protocol import GuestInterface, NetworkNotice
from volant.reconcile.guest_network import describe_addresses
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.records import create_of, find_resource, update_of

log = structlog.get_logger()


class Refused(Exception):
    """What a guest says of its address is not taken over; the words say why."""


class LeaseKeeper:
    """Writes down what a guest was given, and gives back what it has no longer."""

    def __init__(self, store: Store, clock: Clock, connect: Callable[[VM], Awaitable[None]]) -> None:
        """``connect`` lets a VM speak with its addresses, and with no others."""
        self._connect = connect
        self._store = store
        self._clock = clock

    async def take_in(self, vm: VM, notice: NetworkNotice) -> VM:
        """``vm`` with the addresses that ``notice`` tells, its claims and its NetworkReady written. Repeatable."""
        if all(address.source == "static" for address in vm.status.addresses):
            return vm
        said = {each.mac.lower(): each for each in notice.interfaces if each.source == "dhcp"}
        problems: list[tuple[str, str]] = []
        for index, address in enumerate(vm.status.addresses):
            if address.source == "static":
                continue
            try:
                given = await self._judge(vm, address, said.get(address.mac))
                if given != address:
                    vm = await self._write(vm, index, given)
            except Refused as error:
                problems.append(("AddressConflict", str(error)))
                continue
            if not given.ip or (address.source == "dhcp" and not _has_address(said.get(address.mac))):
                problems.append(("WaitingForLease", f"no address was given to it on network {address.network} yet"))
        await self._connect(vm)
        return await self._say(vm, problems)

    async def _judge(self, vm: VM, card: Address, said: GuestInterface | None) -> Address:
        """The card with what it was given. Raises Refused."""
        if card.source == "dhcp":
            # The address was chosen before it asked, so that there is nothing to learn.
            if said is not None and said.address and said.address != f"{card.ip}/{card.prefix_length}":
                raise Refused(
                    f"the guest has {_shorten(said.address)} on network {card.network}, and {card.ip} was chosen for it"
                )
            return card
        if said is None or not said.address:
            return msgspec.structs.replace(card, ip="", prefix_length=0, gateway="")
        network = await find_resource(self._store, Network, vm.meta.project, card.network)
        given = read_lease(said, "" if network is None else network.spec.subnet)
        return msgspec.structs.replace(
            card, ip=str(given.ip), prefix_length=given.network.prefixlen, gateway=read_gateway(said, given)
        )

    async def _write(self, vm: VM, index: int, given: Address) -> VM:
        """Claim what it was given and let go of what it had, in one transaction. Raises Refused when another VM has it."""
        now = format_time(self._clock.now())
        had = vm.status.addresses[index]
        addresses = (*vm.status.addresses[:index], given, *vm.status.addresses[index + 1 :])
        changed = msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, addresses=addresses))
        operations: list[Operation] = [update_of(changed)]
        if given.ip and given.ip != had.ip:
            owner = ClaimSpec(thing="ip", owner_kind=VM.kind, owner_name=vm.name, owner_uid=vm.uid)
            operations.append(create_of(build_claim(ip_claim_name(given.network, given.ip), owner, now)))
        if had.ip and had.ip != given.ip:
            stored = await self._store.get(Key(Claim.kind, "", ip_claim_name(had.network, had.ip)))
            if stored is not None and stored.data["spec"]["owner_uid"] == vm.uid:
                operations.append(Delete(stored.key, stored.revision))
        try:
            revision = await self._store.transact(operations)
        except AlreadyExists:
            raise Refused(f"{given.ip} on network {given.network} is another VM's address already") from None
        log.info("lease_learned", name=vm.name, network=given.network, ip=given.ip or "none")
        return msgspec.structs.replace(changed, revision=revision)

    async def _say(self, vm: VM, problems: list[tuple[str, str]]) -> VM:
        if problems:
            reason, message = min(problems)
            condition = Condition(type=NETWORK_READY, status="False", reason=reason, message=message)
        else:
            condition = Condition(
                type=NETWORK_READY, status="True", reason="Connected", message=describe_addresses(vm.status.addresses)
            )
        conditions = set_condition(vm.status.conditions, condition, format_time(self._clock.now()))
        if conditions == vm.status.conditions:
            return vm
        changed = msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, conditions=conditions))
        try:
            return msgspec.structs.replace(changed, revision=await self._store.transact([update_of(changed)]))
        except NotFound:
            return vm


def read_lease(said: GuestInterface, subnet: str) -> IPv4Interface:
    """The address that a guest says it was given, if a host of ``subnet`` (empty for any) can have it. Raises Refused."""
    try:
        given = IPv4Interface(said.address)
    except ValueError:
        raise Refused(f"the guest says that its address is {_shorten(said.address)}, which is none") from None
    ip, network = given.ip, given.network
    if ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_reserved or network.prefixlen == 0:
        raise Refused(f"the guest says that its address is {given}, which no card can have")
    if network.prefixlen < 31 and ip in (network.network_address, network.broadcast_address):
        raise Refused(f"the guest says that its address is {given}, which is its whole network's")
    if subnet and ip not in IPv4Network(subnet):
        raise Refused(f"the guest says that its address is {ip}, which is not in {subnet}")
    if said.gateway == str(ip):
        raise Refused(f"the guest says that its address is {ip}, which is its gateway's")
    return given


def read_gateway(said: GuestInterface, given: IPv4Interface) -> str:
    """The gateway that the guest was told, empty for none that it could reach."""
    try:
        gateway = IPv4Interface(said.gateway).ip
    except ValueError:
        return ""
    return str(gateway) if gateway in given.network else ""


def _has_address(said: GuestInterface | None) -> bool:
    return said is not None and bool(said.address)


def _shorten(text: str) -> str:
    return repr(text[:40])
