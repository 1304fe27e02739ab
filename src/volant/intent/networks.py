"""What may be asked of networks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Network

import msgspec

from volant.core.address import check_bridge_name, parse_subnet
from volant.core.cards import card_networks
from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import check_name, new_uid
from volant.core.network import DEFAULT_NETWORK, Network, NetworkSpec, NetworkStatus
from volant.core.resource import Meta, Wanted
from volant.core.vm import VM
from volant.intent.follow import follow_resource
from volant.intent.vm_checks import check_generation, check_labels
from volant.store.contract import Store
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

MIN_MTU, MAX_MTU = 576, 9216
LONGEST_BRIDGE = 15


class NetworkIntent:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._making = asyncio.Lock()
        """Subnets and bridges are compared with those of all others, which no claim can say."""

    async def create(self, wanted: Wanted[NetworkSpec], *, project: str = "default", dry_run: bool = False) -> Network:
        """Write a network down; with ``dry_run`` only say what would be.

        Raises:
            InvalidInput: its subnet or bridge cannot be, or is another network's. AlreadyExists: the name is taken.
        """
        check_name(wanted.name)
        async with self._making:
            others = [other for other in await self._list_all() if (other.name, other.meta.project) != (wanted.name, project)]
            spec = _settle(wanted.name, wanted.spec)
            _check_apart(spec, others)
            meta = Meta(
                name=wanted.name,
                uid=new_uid(),
                project=project,
                labels=wanted.labels,
                created_at=format_time(self._clock.now()),
            )
            network = Network(meta=meta, spec=spec, status=NetworkStatus())
            if dry_run:
                return network
            try:
                revision = await self._store.transact([create_of(network)])
            except AlreadyExists:
                raise AlreadyExists(f"there is a network named {wanted.name!r} already", hint="choose another name") from None
        return msgspec.structs.replace(network, revision=revision)

    async def replace(
        self,
        name: str,
        wanted: Wanted[NetworkSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> Network:
        """Have its labels be as ``wanted``. Raises NotFound, WrongState, StaleRevision; InvalidInput for a change of anything
        else, which VMs in it would not survive."""
        check_labels(wanted.labels)
        while True:
            network = await self.get(name, project=project)
            check_generation(network, expected_generation)
            if network.deleting:
                raise WrongState(f"the network {name!r} is being deleted")
            _check_unchanged(network.spec, _settle(name, wanted.spec))
            if network.meta.labels == wanted.labels:
                return network
            meta = msgspec.structs.replace(network.meta, labels=wanted.labels, generation=network.meta.generation + 1)
            changed = msgspec.structs.replace(network, meta=meta)
            if dry_run:
                return changed
            try:
                revision = await self._store.transact([update_of(changed)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(changed, revision=revision)

    async def get(self, name: str, *, project: str = "default") -> Network:
        network = await find_resource(self._store, Network, project, name)
        if network is None:
            raise NotFound(f"there is no network named {name!r}", hint="volar networks list shows those there are")
        return network

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[Network], int]:
        return await list_resources(self._store, Network, project, labels)

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Network:
        """Mark it; it goes with its bridge, if that is Volant's. Raises InUse while a VM has a card in it, WrongState for the
        default one."""
        if name == DEFAULT_NETWORK:
            raise WrongState(
                "the default network stays: VMs are in it unless they say otherwise", hint="volantd's --subnet changes it"
            )
        while True:
            network = await self.get(name, project=project)
            check_generation(network, expected_generation)
            if network.deleting:
                return network
            # A create that comes between this look and the mark finds a network that is going, and fails.
            vms, _ = await list_resources(self._store, VM, project)
            users = [vm.name for vm in vms if name in {*card_networks(vm.spec), *(card.network for card in vm.status.addresses)}]
            if users:
                more = f" and {len(users) - 1} more" if len(users) > 1 else ""
                raise InUse(f"the network {name!r} is used by the VM {users[0]!r}{more}", hint="delete those VMs first")
            meta = msgspec.structs.replace(network.meta, deleting_at=format_time(self._clock.now()))
            try:
                revision = await self._store.transact([update_of(msgspec.structs.replace(network, meta=meta))])
            except StaleRevision:
                continue
            return msgspec.structs.replace(network, meta=meta, revision=revision)

    async def wait(self, network: Network, *, timeout_s: float) -> Network | None:
        """Follow it until it is ready or has failed, or until it is gone when it is being deleted."""
        try:
            async with asyncio.timeout(timeout_s):
                following: AsyncIterator[Network | None] = follow_resource(self._store, Network, key_of(network), network.uid)
                async for current in following:
                    if current is None or (not network.deleting and current.status.phase in ("Ready", "Failed")):
                        return current
        except TimeoutError:
            raise TimedOut(f"network {network.name!r} was not settled after {timeout_s:g} s") from None
        return None

    async def _list_all(self) -> Sequence[Network]:
        networks, _ = await list_resources(self._store, Network, None)
        return networks


def _settle(name: str, spec: NetworkSpec) -> NetworkSpec:
    """``spec`` with a bridge. Raises InvalidInput when it cannot be."""
    if not MIN_MTU <= spec.mtu <= MAX_MTU:
        raise InvalidInput(f"an MTU of {spec.mtu} bytes cannot be", field="mtu", hint=f"{MIN_MTU} to {MAX_MTU}")
    if spec.dhcp == "external":
        if not spec.bridge:
            raise InvalidInput(
                "a network of somebody else's is named by its bridge", field="bridge", hint="ip link show type bridge"
            )
        check_bridge_name(spec.bridge)
        if spec.subnet:
            _read_subnet(spec.subnet)
        return spec
    if not spec.subnet:
        raise InvalidInput("a network needs a subnet", field="subnet", hint="for example 192.168.128.0/24")
    parse_subnet(spec.subnet)
    return msgspec.structs.replace(spec, bridge=check_bridge_name(spec.bridge or choose_bridge(name)))


def _check_unchanged(before: NetworkSpec, after: NetworkSpec) -> None:
    for field in NetworkSpec.__struct_fields__:
        if getattr(before, field) != getattr(after, field):
            raise InvalidInput(
                f"{field} of a network cannot be changed",
                field=field,
                hint="make another network, and delete this one when nothing is in it",
            )


def choose_bridge(name: str) -> str:
    """What the bridge of network ``name`` is called unless somebody says otherwise."""
    plain = f"vbr-{name}"
    return plain if len(plain) <= LONGEST_BRIDGE else f"vbr-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _read_subnet(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text[:80]!r} is not an IPv4 subnet: {error}", field="subnet", hint="write 192.168.128.0/24"
        ) from error


def _check_apart(spec: NetworkSpec, others: Sequence[Network]) -> None:
    for other in others:
        if other.spec.bridge == spec.bridge:
            raise InvalidInput(
                f"the bridge {spec.bridge} is that of the network {other.name!r}", field="bridge", hint="choose another"
            )
        both_ours = spec.dhcp == other.spec.dhcp == "volant"
        if both_ours and IPv4Network(spec.subnet).overlaps(IPv4Network(other.spec.subnet)):
            raise InvalidInput(
                f"{spec.subnet} overlaps with {other.spec.subnet} of the network {other.name!r}",
                field="subnet",
                hint="choose another",
            )
