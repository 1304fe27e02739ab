"""The parts of the control plane in memory that fast starts add: snapshots, templates, pools."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from volant.core.errors import AlreadyExists, NotFound, TimedOut
from volant.core.ids import check_name, new_uid
from volant.core.resource import Meta, Wanted, to_stored
from volant.core.snapshot import Snapshot, SnapshotSpec, SnapshotStatus
from volant.core.template import Template
from volant.core.vm import VM, VMSpec
from volant.intent.listing import Ask, Page, choose_page
from volant.intent.pools import Pool
from volant.intent.snapshot_list import SNAPSHOTS
from volant.store.contract import Stored
from volant.store.records import key_of

NOW = "2026-01-31T12:00:00.000000Z"
MIB = 1024 * 1024
replace = msgspec.structs.replace


def make_template(key: str, plugin: str, **fields: Any) -> Template:
    values = {"kind": "booted", "cpu_cores": 1, "memory_mb": 256, "disk_mb": 1024, "size_bytes": 90 * MIB, **fields}
    return Template(
        key=key * 64, plugin=plugin, accelerator="tcg", hypervisor="qemu 7.2.22", created_at=NOW, used_at=NOW, **values
    )


class FakeSnapshots:
    """Takes them at once, with ``outcome``; ``taken`` holds it back until it is set."""

    def __init__(self, table: Any, vms: Any) -> None:
        self.table = table
        self._vms = vms
        self.outcome: dict[str, Any] = {"phase": "Ready", "size_bytes": 3 * MIB, "paused_ms": 35, "taken_at": NOW}
        self.taken = asyncio.Event()
        self.taken.set()

    async def create(self, wanted: Wanted[SnapshotSpec], *, project: str = "default") -> Snapshot:
        check_name(wanted.name)
        vm: VM = await self._vms.get(wanted.spec.vm)
        if wanted.name in self.table.rows:
            raise AlreadyExists(f"there is a snapshot named {wanted.name!r} already")
        status = SnapshotStatus(
            vm_uid=vm.uid, plugin=vm.spec.plugin, cpu_cores=1, memory_mb=256, disk_mb=1024, parent=vm.spec.snapshot
        )
        meta = Meta(name=wanted.name, uid=new_uid(), labels=wanted.labels, created_at=NOW)
        snapshot: Snapshot = await self.table.put(Snapshot(meta=meta, spec=wanted.spec, status=status))
        return snapshot

    async def get(self, name: str, *, project: str = "default") -> Snapshot:
        found: Snapshot = self.table.get(name)
        return found

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Snapshot]:
        rows = sorted(self.table.rows.items())
        stored = [Stored(key_of(row), row.revision, to_stored(row)) for _, row in rows]
        return choose_page(SNAPSHOTS, stored, self.table.revision, ask)

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[Snapshot], int]:
        wanted = (labels or {}).items()
        return [one for one in self.table.rows.values() if wanted <= one.meta.labels.items()], self.table.revision

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Snapshot:
        snapshot = self.table.get(name)
        deleting: Snapshot = await self.table.put(replace(snapshot, meta=replace(snapshot.meta, deleting_at=NOW)))
        return deleting

    async def wait(self, snapshot: Snapshot, *, timeout_s: float) -> Snapshot | None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.taken.wait()
        except TimeoutError:
            raise TimedOut(f"snapshot {snapshot.name!r} was not settled") from None
        if snapshot.deleting:
            await self.table.drop(snapshot.name)
            return None
        taken: Snapshot = await self.table.put(replace(snapshot, status=replace(snapshot.status, **self.outcome)))
        return taken

    async def fork(self, name: str, names: tuple[str, ...], *, project: str = "default") -> tuple[VM, ...]:
        parent: VM = await self._vms.get(name)
        await self.taken.wait()
        snapshot = await self.create(
            Wanted(name=f"fork-{names[0]}", labels={}, spec=SnapshotSpec(vm=name, transient=True)), project=project
        )
        spec = VMSpec(plugin=parent.spec.plugin, snapshot=snapshot.name, ports=())
        return tuple([await self._vms.create(Wanted(name=each, labels={}, spec=spec)) for each in names])


class FakeTemplates:
    """Builds what is asked for at once; ``built`` holds it back until it is set."""

    def __init__(self) -> None:
        self.found: list[Template] = []
        self.built = asyncio.Event()
        self.built.set()

    async def list_templates(self) -> list[Template]:
        return list(self.found)

    async def build_template(
        self, plugin: str, *, project: str = "default", cpu_cores: int | None, memory_mb: int | None
    ) -> Template:
        if plugin == "absent":
            raise NotFound("there is no plugin named 'absent'", hint="volar plugins list")
        await self.built.wait()
        self.found.append(make_template("b", plugin, cpu_cores=cpu_cores or 1, memory_mb=memory_mb or 256))
        return self.found[-1]

    async def prune_templates(self) -> list[Template]:
        gone = [template for template in self.found if not template.users]
        self.found = [template for template in self.found if template.users]
        return gone


class FakePools:
    def __init__(self, plugins: Any) -> None:
        self._plugins = plugins

    async def list(self, *, project: str = "default") -> list[Pool]:
        return [
            Pool(plugin=plugin.name, wanted=plugin.wanted_pool, parked=1, reserved_mb=256, message="the host is short of memory")
            for plugin in self._plugins.rows.values()
            if plugin.wanted_pool
        ]
