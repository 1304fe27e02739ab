"""The pool controller: keeps as many clones of a plugin parked as were asked for. A create takes one by its record
(intent/pool.py); here the gap is filled again."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from volant.core.cards import bare_cards
from volant.core.claim import ClaimSpec, build_claim, mac_claim_name
from volant.core.clock import Clock, format_time
from volant.core.defaults import fill_in
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, VolantError
from volant.core.ids import new_uid
from volant.core.plugin import Plugin, PoolStatus
from volant.core.plugin_versions import split_reference
from volant.core.resource import Meta, from_stored
from volant.core.vm import FINALIZER, VM, VMSpec, VMStatus, is_parked
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.plugin import list_made_from
from volant.store.cache import Cache
from volant.store.contract import Key, RequireLive, Store
from volant.store.records import create_of, find_resource, key_of, update_of

log = structlog.get_logger()

PRESSURE_FREE_SHARE = 0.1
"""Below this share of the host's memory nothing is kept in reserve."""

LOOK_AGAIN_S = 5.0
AT_ONCE = 4
"""So many clones of one pool are in the making at a time: who waits for a start of their own comes first."""


def measure_free_share(path: Path = Path("/proc/meminfo")) -> float:
    """The part of the host's memory that programs could still have, from 0 to 1."""
    values = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    return values["MemAvailable"] / values["MemTotal"]


class PoolController:
    """Implements engine.Controller for plugins, as far as their pools go."""

    kind = Plugin.kind

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        *,
        is_offered: bool,
        free_share: Callable[[], float] = measure_free_share,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._is_offered = is_offered
        self.free_share = free_share

    async def reconcile(self, key: Key) -> Outcome:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is None:
            return Done()
        wanted, message = self._judge(plugin)
        parked = [vm for vm in self._list_parked(plugin) if not vm.deleting]
        shape = fill_in(VMSpec(plugin=plugin.name, power="parked", ports=(), auto_suspend_s=0), plugin.manifest)
        good = [vm for vm in parked if _same_shape(vm.spec, shape) and vm.status.plugin_uid == plugin.uid]
        for vm in [*(vm for vm in parked if vm not in good), *good[wanted:]]:
            await self._delete(vm)
        making = sum(vm.status.phase != "Parked" for vm in good)
        for _ in range(min(wanted - len(good), AT_ONCE - making)):
            await self._create(plugin, shape)
        ready = sum(vm.status.phase == "Parked" for vm in good[:wanted])
        status = PoolStatus(wanted=plugin.wanted_pool, parked=ready, message=message)
        if not plugin.deleting and status != plugin.status.pool:
            changed = msgspec.structs.replace(plugin.status, pool=status)
            await self._store.transact([update_of(msgspec.structs.replace(plugin, status=changed))])
        return After(LOOK_AGAIN_S) if plugin.wanted_pool else Done()

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is not None and not plugin.deleting:
            pool = msgspec.structs.replace(plugin.status.pool, message=str(error))
            changed = msgspec.structs.replace(plugin.status, pool=pool)
            await self._store.transact([update_of(msgspec.structs.replace(plugin, status=changed))])

    def _judge(self, plugin: Plugin) -> tuple[int, str]:
        """How many there should be now, and why not as many as were asked for."""
        if plugin.deleting or not plugin.wanted_pool:
            return 0, ""
        if not plugin.spec.enabled:
            return 0, "the plugin is disabled"
        if plugin.status.trust is not None and plugin.status.trust.refused:
            return 0, "the plugin is not trusted"
        if plugin.manifest.agent == "none":
            return 0, "its guest has no agent that could be told who it is"
        if not self._is_offered:
            return 0, "this host's hypervisor cannot start clones"
        if self.free_share() < PRESSURE_FREE_SHARE:
            return 0, "the host is short of memory, so the pool was given up"
        return plugin.wanted_pool, ""

    def _list_parked(self, plugin: Plugin) -> list[VM]:
        vms = (from_stored(VM, one.data, one.revision) for one in list_made_from(self._cache, plugin))
        return sorted((vm for vm in vms if is_parked(vm)), key=lambda vm: (vm.status.phase != "Parked", vm.name))

    async def _create(self, plugin: Plugin, shape: VMSpec) -> None:
        now = format_time(self._clock.now())
        # A name that nobody else can give: a VM's own has no dot.
        name = f"{split_reference(plugin.name)[0][:50]}.{secrets.token_hex(4)}"
        meta = Meta(
            name=name, uid=new_uid(), project=plugin.meta.project, created_at=now, finalizers=(FINALIZER,), owner=plugin.uid
        )
        cards = bare_cards(meta.uid, shape)
        status = VMStatus(addresses=cards, plugin_uid=plugin.uid, plugin_version=plugin.spec.version)
        vm = VM(meta=meta, spec=shape, status=status)
        owner = ClaimSpec(thing="mac", owner_kind=VM.kind, owner_name=name, owner_uid=meta.uid)
        claims = [build_claim(mac_claim_name(card.mac), owner, now) for card in cards]
        try:
            await self._store.transact([RequireLive(key_of(plugin)), create_of(vm), *(create_of(claim) for claim in claims)])
        except (AlreadyExists, NotFound) as error:
            log.debug("pool_create_refused", plugin=plugin.name, error=str(error))

    async def _delete(self, vm: VM) -> None:
        meta = msgspec.structs.replace(vm.meta, deleting_at=format_time(self._clock.now()), generation=vm.meta.generation + 1)
        try:
            await self._store.transact([update_of(msgspec.structs.replace(vm, meta=meta))])
        except (StaleRevision, NotFound):
            return  # it was taken, or has changed; the next look sees


def _same_shape(spec: VMSpec, shape: VMSpec) -> bool:
    return msgspec.structs.replace(spec, restart_token=0) == msgspec.structs.replace(shape, restart_token=0)
