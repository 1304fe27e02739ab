"""The sweeper: what no resource answers for any more is given back. It finds what a killed volantd left between two steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, Protocol

import msgspec
import structlog

from volant.core.cards import MAX_CARDS, card_tap
from volant.core.claim import Claim
from volant.core.clock import Clock, parse_time
from volant.core.deployment import Deployment, DeploymentRevision
from volant.core.disks import own_artifacts
from volant.core.errors import NotFound, StaleRevision, VolantError
from volant.core.event import Event
from volant.core.ids import Digest, Uid
from volant.core.plugin import Plugin, wanted_artifacts
from volant.core.snapshot import Snapshot
from volant.core.vm import VM, VMSpec
from volant.net.fabric import Fabric
from volant.node.local import LocalNode
from volant.store.cache import Cache
from volant.store.contract import MAX_OPERATIONS, Delete, Store, Stored
from volant.store.records import list_resources
from volant.volume.saved import SavedStore, remove_saved

log = structlog.get_logger()

PERIOD_S = 60.0
CLAIM_GRACE = timedelta(seconds=10)
"""A claim younger than this is left alone; it is made with its owner, but listings are not."""

EVENTS_KEPT = 5_000
EVENTS_AGE = timedelta(days=7)


UPLOAD_GRACE = timedelta(hours=24)
"""A file that no plugin names stays this long: somebody may be about to install one."""


class Artifacts(Protocol):
    """What sweeping needs of the artifact store."""

    async def sweep(self, keep: AbstractSet[Digest], unused_since: float) -> set[Digest]: ...


class Sweeper:
    """Runs once at the start and then every PERIOD_S."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        node: LocalNode,
        fabric: Fabric,
        artifacts: Artifacts,
        snapshots: SavedStore,
        *,
        tend_templates: Callable[[], Awaitable[None]],
        spare: Callable[[], AbstractSet[Uid]],
        cache: Cache | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._fabric = fabric
        self._artifacts = artifacts
        self._snapshots = snapshots
        self._tend_templates = tend_templates
        self._spare = spare
        self._cache = cache

    async def run(self) -> None:
        """A task body; runs until cancelled. What cannot be swept now is tried again next time."""
        while True:
            try:
                await self.sweep()
            except VolantError as error:
                log.warning("sweep_failed", error=str(error))
            await self._clock.sleep(PERIOD_S)

    async def sweep(self) -> None:
        """One pass over claims, units, taps, artifacts, events and the change log."""
        # What is on the host is looked at before what is in the registry: a VM made in between is then known.
        units = self._node.places.known_uids()
        taps = await self._fabric.list_taps()
        claims = await self._list(Claim.kind)
        # Of thousands of VMs only what is asked for is read.
        vms = await self._list(VM.kind)
        vm_uids = {Uid(stored.data["meta"]["uid"]) for stored in vms}
        deployments, _ = await list_resources(self._store, Deployment, None)
        await self._sweep_claims(claims, vm_uids | {owner.uid for owner in deployments})
        for uid in sorted(units - vm_uids - self._spare()):
            log.warning("orphan_unit", uid=uid)
            await self._node.release(uid)
        known_taps = {
            card_tap(Uid(stored.data["meta"]["uid"]), index)
            for stored in vms
            for index in range(len(stored.data["status"]["addresses"]))
        }
        known_taps |= {card_tap(uid, index) for uid in self._spare() for index in range(MAX_CARDS)}
        for tap in sorted(taps - known_taps):
            log.warning("orphan_tap", tap=tap)
            await self._fabric.remove_tap(tap)
        await self._sweep_artifacts()
        await self._sweep_snapshots()
        await self._tend_templates()
        await self._sweep_events()
        await self._store.compact()

    async def _sweep_claims(self, claims: Sequence[Stored], owners: AbstractSet[str]) -> None:
        newest = self._clock.now() - CLAIM_GRACE
        for stored in claims:
            if stored.data["spec"]["owner_uid"] in owners or parse_time(stored.data["meta"]["created_at"]) > newest:
                continue
            log.warning("orphan_claim", name=stored.key.name, owner=stored.data["spec"]["owner_name"])
            await self._delete([Delete(stored.key, stored.revision)])

    async def _sweep_artifacts(self) -> None:
        plugins, _ = await list_resources(self._store, Plugin, None)
        vms = await self._list(VM.kind)
        keep = {digest for plugin in plugins for digest in wanted_artifacts(plugin.manifest).values()}
        keep |= {digest for stored in vms for digest in _own_artifacts(stored.data["spec"])}
        revisions, _ = await list_resources(self._store, DeploymentRevision, None)
        keep |= {digest for revision in revisions for digest in own_artifacts(revision.spec.vm)}
        for digest in await self._artifacts.sweep(keep, (self._clock.now() - UPLOAD_GRACE).timestamp()):
            log.info("artifact_swept", digest=digest)

    async def _sweep_snapshots(self) -> None:
        # As with units: what is on the disk is looked at first.
        entries = await self._snapshots.list_entries()
        snapshots, _ = await list_resources(self._store, Snapshot, None)
        known = {snapshot.uid for snapshot in snapshots}
        for entry in entries:
            if entry.name not in known:
                log.warning("orphan_snapshot", uid=entry.name)
                await remove_saved(entry.path)

    async def _sweep_events(self) -> None:
        events = list(await self._list(Event.kind))
        events.sort(key=lambda stored: str(stored.data["spec"]["at"]), reverse=True)
        oldest = self._clock.now() - EVENTS_AGE
        old = [stored for i, stored in enumerate(events) if i >= EVENTS_KEPT or parse_time(stored.data["spec"]["at"]) < oldest]
        for start in range(0, len(old), MAX_OPERATIONS):
            await self._delete([Delete(stored.key, stored.revision) for stored in old[start : start + MAX_OPERATIONS]])

    async def _list(self, kind: str) -> Sequence[Stored]:
        """What there is of ``kind`` now; of thousands nothing is read from the disk."""
        if self._cache is not None and self._cache.holds(kind) and await self._cache.catch_up():
            return self._cache.list(kind)
        return (await self._store.list(kind)).items

    async def _delete(self, operations: list[Delete]) -> None:
        try:
            await self._store.transact(operations)
        except (NotFound, StaleRevision):
            return  # somebody wrote in between, so it is not old any more; the next pass looks again


def _own_artifacts(spec: dict[str, Any]) -> set[Digest]:
    """The artifacts that the VM of this record needs beside its plugin's: few have any."""
    if not (spec.get("disks") or spec.get("kernel") or spec.get("initramfs")):
        return set()
    return own_artifacts(msgspec.convert(spec, VMSpec))
