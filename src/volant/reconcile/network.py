"""The network controller, and the one place where the host's rules are computed from all VMs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address
from typing import Any

import msgspec
import structlog

from volant.core.address import parse_subnet
from volant.core.cards import card_tap
from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import HostError, NotFound, VolantError
from volant.core.ids import Uid
from volant.core.network import Network, NetworkStatus
from volant.core.resource import from_stored
from volant.core.vm import VM, Address, PublishedPort
from volant.net.dhcp import Lease, Served
from volant.net.fabric import Fabric
from volant.net.plan import NetworkPlan
from volant.net.rules import Forward, Port, build_rules
from volant.reconcile.outcome import After, Done, Outcome
from volant.store.cache import Cache
from volant.store.contract import Change, Delete, Key, Store, Stored
from volant.store.records import find_resource, key_of, update_of

log = structlog.get_logger()

MISSING_AGAIN_S = 3.0
"""Nobody tells when a bridge of somebody else's comes."""


class _Computed(msgspec.Struct, frozen=True, kw_only=True):
    """What one VM's record, at ``revision``, asks of the rules of ``plans``."""

    uid: Uid
    revision: int
    plans: dict[str, NetworkPlan]
    ports: tuple[Port, ...]
    leases: tuple[tuple[str, Lease], ...]
    forwards: tuple[Forward, ...]


class NetworkKeeper:
    """Makes bridges and rules what the registry says. Rules are one whole, so they are applied by one hand at a time."""

    def __init__(self, cache: Cache, fabric: Fabric, has_port: Callable[[Uid, int], bool] = lambda uid, host_port: False) -> None:
        """``has_port`` tells which published ports volantd listens on for a VM (PortKeeper).

        A port that another program has, such as its own way into this host, is not to be led past that program.
        """
        self._cache = cache
        self._fabric = fabric
        self._has_port = has_port
        self._lock = asyncio.Lock()
        self.missing: dict[str, str] = {}
        """The networks whose bridge somebody else was to make and has not, and what is said of each."""
        self._applied: dict[str, Port] = {}
        """What the rules in force let each tap say."""
        self._unserved: HostError | None = None
        """Why nobody answers those who ask for their address."""
        self._applied_plans: dict[str, NetworkPlan] | None = None
        """The networks of the rules in force; ``None`` while that is not known."""
        self._known_plans: dict[str, NetworkPlan] = {}
        self._computed: dict[Key, _Computed] = {}
        """What followed from each VM's record when rules were computed last."""
        self._forwarded: frozenset[str] | None = None
        """The addresses that rules lead to from outside; ``None`` while that is not known."""

    @property
    def size(self) -> int:
        """How many VMs there were when rules were computed last."""
        return len(self._computed)

    async def ensure(self) -> None:
        """Every network's bridge, and the rules of every VM, whatever was there before."""
        async with self._lock:
            await self._apply(None)

    async def ensure_port(self, vm: VM) -> None:
        """As ``ensure``, unless the rules in force let ``vm`` speak already. Many starts at once share one application."""
        async with self._lock:
            plans = self._plans()
            wanted = _ports_of(vm.uid, vm.status.addresses, plans)
            missing = [port for port in wanted if self._applied.get(port.tap) != port]
            if missing and not await self._extend(missing, plans):
                await self._apply(vm)
            if self._unserved is not None and any(address.source == "dhcp" for address in vm.status.addresses):
                await self._apply(vm)
                if self._unserved is not None:
                    raise self._unserved

    async def close_ports(self, vm: VM) -> None:
        """Return once no rule leads from outside to ``vm``, so that who connects comes to volantd, which can wake it."""
        async with self._lock:
            ips = {address.ip for address in vm.status.addresses}
            if self._forwarded is None or self._forwarded & ips:
                await self._apply(None, closed=ips)

    async def _extend(self, ports: list[Port], plans: dict[str, NetworkPlan]) -> bool:
        """Add ``ports`` to the rules in force, so that a start costs the same however many VMs there are."""
        # What its card may say no longer must go from the rules, too; and who asks for an address needs somebody to answer.
        if plans != self._applied_plans or any(port.tap in self._applied or port.dhcp for port in ports):
            return False
        bridges = {port.bridge for port in ports}
        try:
            for plan in plans.values():
                if plan.bridge in bridges:
                    await self._fabric.ensure_network(plan)
            if not await self._fabric.extend_rules(ports):
                return False
        except (HostError, NotFound) as error:
            log.debug("rules_not_extended", error=str(error))
            return False
        self._applied |= {port.tap: port for port in ports}
        return True

    async def _apply(self, extra: VM | None, closed: AbstractSet[str] = frozenset()) -> None:
        plans = self._plans()
        for name, plan in list(plans.items()):
            try:
                await self._fabric.ensure_network(plan)
            except NotFound as error:
                # Somebody else's bridge; those in other networks need not wait for it.
                log.warning("bridge_missing", network=name, error=str(error))
                self.missing[name] = str(error)
            else:
                self.missing.pop(name, None)
        ports: set[Port] = set()
        forwards: set[Forward] = set()
        leases: dict[str, set[Lease]] = {}
        for each in self._compute(plans):
            if extra is not None and each.uid == extra.uid:
                continue
            ports.update(each.ports)
            for network, lease in each.leases:
                leases.setdefault(network, set()).add(lease)
            forwards.update(
                forward for forward in each.forwards if forward.ip not in closed and self._has_port(each.uid, forward.host_port)
            )
        if extra is not None:
            ports.update(_ports_of(extra.uid, extra.status.addresses, plans))
            for network, lease in _leases_of(extra.status.addresses):
                leases.setdefault(network, set()).add(lease)
        self._applied, self._forwarded, self._applied_plans = {}, None, None
        await self._fabric.apply_rules(
            build_rules(list(plans.values()), sorted(ports, key=lambda port: port.tap), tuple(forwards))
        )
        self._applied, self._applied_plans = {port.tap: port for port in ports}, plans
        self._forwarded = frozenset(forward.ip for forward in forwards)
        served = [Served(plan=plans[name], leases=tuple(sorted(leases[name]))) for name in sorted(leases) if name in plans]
        try:
            await self._fabric.serve_dhcp(served)
        except HostError as error:
            # Those who do not ask need not wait for it.
            log.warning("dhcp_failed", error=str(error))
            self._unserved = error
        else:
            self._unserved = None

    async def remove(self, network: Network) -> None:
        """Take down the bridge of a network that nobody is in any more. Raises InUse while a tap is connected to it."""
        async with self._lock:
            await self._fabric.remove_network(plan_of(network))
            await self._apply(None)

    def _compute(self, plans: dict[str, NetworkPlan]) -> list[_Computed]:
        """What each VM needs of the rules. Of thousands of records only those are read that changed since the last time."""
        before = self._computed
        found: dict[Key, _Computed] = {}
        for stored in self._cache.list(VM.kind):
            known = before.get(stored.key)
            if known is None or known.revision != stored.revision or known.plans is not plans:
                known = _compute(stored, plans)
            found[stored.key] = known
        self._computed = found
        return list(found.values())

    def _plans(self) -> dict[str, NetworkPlan]:
        networks = (from_stored(Network, stored.data, stored.revision) for stored in self._cache.list(Network.kind))
        plans = {network.name: plan_of(network) for network in networks if not network.deleting}
        if plans != self._known_plans:
            self._known_plans = plans
        return self._known_plans


def _ports_of(uid: Uid, addresses: tuple[Address, ...], plans: dict[str, NetworkPlan]) -> list[Port]:
    return [
        Port(
            tap=card_tap(uid, index),
            bridge=plans[address.network].bridge,
            mac=address.mac,
            ip=address.ip,
            dhcp=address.source != "static",
        )
        for index, address in enumerate(addresses)
        if address.network in plans and (address.ip or address.source != "static")
    ]


def _leases_of(addresses: tuple[Address, ...]) -> tuple[tuple[str, Lease], ...]:
    return tuple(
        (address.network, Lease(ip=address.ip, mac=address.mac))
        for address in addresses
        if address.source == "dhcp" and address.ip
    )


def _compute(stored: Stored, plans: dict[str, NetworkPlan]) -> _Computed:
    uid = Uid(stored.data["meta"]["uid"])
    addresses = msgspec.convert(stored.data["status"]["addresses"], tuple[Address, ...])
    is_reached = bool(addresses) and addresses[0].network in plans
    return _Computed(
        uid=uid,
        revision=stored.revision,
        plans=plans,
        ports=tuple(_ports_of(uid, addresses, plans)),
        leases=_leases_of(addresses),
        forwards=_forwards_of(stored.data) if is_reached else (),
    )


def _forwards_of(data: dict[str, Any]) -> tuple[Forward, ...]:
    """The way to the published ports of the VM of this record that needs no volantd: for one that is awake and stays so.

    One that falls asleep by itself is reached by volantd only, which sees who comes and wakes it.
    """
    spec, status = data["spec"], data["status"]
    if not spec.get("ports") or spec.get("auto_suspend_s") or not status["addresses"]:
        return ()
    if data["meta"].get("deleting_at") or spec["power"] != "running" or not status["ready"]:
        return ()
    ip = status["addresses"][0]["ip"]
    if not ip or status["addresses"][0].get("source") == "external":
        return ()  # this host has no way of its own to there
    ports = msgspec.convert(spec["ports"], tuple[PublishedPort, ...])
    return tuple(Forward(host_port=port.host_port, ip=ip, port=port.port) for port in ports)


class NetworkController:
    """Implements engine.Controller for networks."""

    kind = Network.kind

    def __init__(self, store: Store, clock: Clock, keeper: NetworkKeeper) -> None:
        self._store = store
        self._clock = clock
        self._keeper = keeper

    async def reconcile(self, key: Key) -> Outcome:
        network = await find_resource(self._store, Network, key.project, key.name)
        if network is None:
            return Done()
        if network.deleting:
            return await self._remove(network)
        await self._keeper.ensure()
        missing = self._keeper.missing.get(network.name)
        if missing is not None:
            await self._write(network, phase="Failed", message=missing, gateway="")
            return After(MISSING_AGAIN_S)
        plan = plan_of(network)
        await self._write(network, phase="Ready", message="", gateway=str(plan.gateway) if plan.is_ours else "")
        return Done()

    async def _remove(self, network: Network) -> Outcome:
        await self._keeper.remove(network)
        await self._store.transact([Delete(key_of(network), network.revision)])
        return Done()

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        network = await find_resource(self._store, Network, key.project, key.name)
        if network is not None:
            await self._write(network, phase="Failed", message=str(error), gateway=network.status.gateway)

    async def _write(self, network: Network, **fields: str) -> None:
        ready = fields["phase"] == "Ready"
        condition = Condition(
            type="Ready", status="True" if ready else "False", reason=fields["phase"], message=fields["message"]
        )
        conditions = set_condition(network.status.conditions, condition, format_time(self._clock.now()))
        status: NetworkStatus = msgspec.structs.replace(network.status, conditions=conditions, **fields)
        if status != network.status:
            await self._store.transact([update_of(msgspec.structs.replace(network, status=status))])


def plan_of(network: Network) -> NetworkPlan:
    """The plain plan of a network that the fabric works from."""
    if network.spec.dhcp == "external":
        nowhere = IPv4Address(0)
        return NetworkPlan(bridge=network.spec.bridge, gateway=nowhere, prefix_length=32, mtu=network.spec.mtu, is_ours=False)
    subnet = parse_subnet(network.spec.subnet)
    return NetworkPlan(
        bridge=network.spec.bridge, gateway=subnet.gateway, prefix_length=subnet.prefix_length, mtu=network.spec.mtu
    )


def leaves_rules(change: Change) -> bool:
    """True when a VM went and its rules are to go. A VM that comes brings its own with its start."""
    return change.key.kind == VM.kind and change.type == "delete"


def changes_forwards(change: Change, old: Stored | None) -> bool:
    """True when rules are to lead to other published ports than before. Until they do, volantd's listeners see to those."""
    if change.key.kind != VM.kind:
        return False
    new = _forwards_of(change.data) if change.type == "put" else ()
    return new != (() if old is None else _forwards_of(old.data))
