"""What a VM is put together from: its disks and network cards, where they lie on this host and how they are opened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from volant.core.cards import card_tap
from volant.core.disks import MICROVM_PLACES, PLACES, WantedDisk, count_devices, extra_disks, own_disk
from volant.core.errors import NotFound, Unavailable
from volant.core.ids import Digest
from volant.core.manifest import Manifest
from volant.core.network import Network
from volant.core.vm import VM, ExtraDisk
from volant.hypervisor.machine import BlockDevice, Files, Machine, NetworkDevice
from volant.net.fabric import Fabric
from volant.node.unit import Places
from volant.reconcile.guest_config import DISK_SERIAL, ROOTFS_SERIAL
from volant.reconcile.network import NetworkKeeper, plan_of
from volant.store.contract import Store
from volant.store.records import find_resource
from volant.volume.disk import Disks
from volant.volume.qcow2 import check_qcow2

DISK = "disk.img"
"""The root's layer, where it lies and in what was saved with one."""

_ROOT_PLACE, _LAYER_PLACE, _CARD_PLACE = 0, 1, 2
_OURS = frozenset({6, 7})
"""On QEMU's microvm the agent's port and the random numbers lie there."""


class Artifacts(Protocol):
    """What a start needs of the artifact store."""

    async def verify(self, digest: Digest) -> None: ...

    def open(self, digest: Digest) -> int: ...


class OwnDisk(msgspec.Struct, frozen=True):
    """A disk that one VM writes to. ``saved`` is its file's name in what was saved; ``wanted`` is None for the root's layer."""

    serial: str
    path: Path
    saved: str
    wanted: WantedDisk | None = None


def has_root_disk(vm: VM, manifest: Manifest) -> bool:
    return manifest.rootfs is not None and vm.spec.root == "disk"


def own_disks(vm: VM, manifest: Manifest, places: Places) -> tuple[OwnDisk, ...]:
    """Every disk that is the VM's alone, the root's layer first."""
    found = [OwnDisk(DISK_SERIAL, places.disk(vm.uid), DISK)] if has_root_disk(vm, manifest) else []
    found += [_place_own(vm, disk, places) for disk in extra_disks(vm.spec, manifest) if not disk.readonly]
    return tuple(found)


def _place_own(vm: VM, disk: WantedDisk, places: Places) -> OwnDisk:
    name = f"disk-{disk.name}.img"
    return OwnDisk(disk.name, places.units / vm.uid / name, name, disk)


def describe_devices(
    vm: VM, manifest: Manifest, rootfs: Digest | None, hypervisor: str
) -> tuple[tuple[BlockDevice, ...], tuple[NetworkDevice, ...]]:
    """The disks and cards of ``vm``, each at its place.

    Raises:
        Unavailable: a machine of ``hypervisor`` has not as many places.
    """
    limit, count = PLACES.get(hypervisor, MICROVM_PLACES), count_devices(vm.spec, manifest)
    if count > limit:
        raise Unavailable(f"its {count} disks and network cards do not fit into a machine of {hypervisor}, which has {limit}")
    disks: list[BlockDevice] = []
    if rootfs is not None:
        disks.append(BlockDevice(serial=ROOTFS_SERIAL, bus=_ROOT_PLACE, readonly=True, content=rootfs))
    if has_root_disk(vm, manifest):
        disks.append(BlockDevice(serial=DISK_SERIAL, bus=_LAYER_PLACE, readonly=False))
    cards: list[NetworkDevice] = []
    taken = {disk.bus for disk in disks} | _OURS
    for index, address in enumerate(vm.status.addresses):
        place = _CARD_PLACE if index == 0 else _next_free(taken)
        taken.add(place)
        cards.append(NetworkDevice(mac=address.mac, tap=card_tap(vm.uid, index), bus=place))
    for disk in extra_disks(vm.spec, manifest):
        place = _next_free(taken)
        taken.add(place)
        disks.append(_describe_disk(disk, place))
    return tuple(disks), tuple(cards)


def _describe_disk(disk: WantedDisk, place: int) -> BlockDevice:
    content = str(disk.artifact) if disk.readonly and disk.artifact else ""
    origin = "" if disk.readonly else disk.origin
    return BlockDevice(serial=disk.name, bus=place, readonly=disk.readonly, content=content, format=disk.format, origin=origin)


def _next_free(taken: set[int]) -> int:
    # Where a first card would be stays free for it last: templates with and without one are then as alike as can be.
    places: tuple[int, ...] = (3, 4, 5, 2, 1, 0, *range(8, 64))
    return next(place for place in places if place not in taken)


def find_free_place(machine: Machine) -> int:
    """Where one more device fits into a running machine."""
    taken = {*(disk.bus for disk in machine.disks), *(card.bus for card in machine.networks), machine.balloon, *_OURS}
    return _next_free(taken)


class Parts:
    """Makes and opens them. What is opened is the caller's to close."""

    def __init__(
        self, store: Store, places: Places, artifacts: Artifacts, disks: Disks, fabric: Fabric, networks: NetworkKeeper
    ) -> None:
        self._store = store
        self._places = places
        self._artifacts = artifacts
        self._disks = disks
        self._fabric = fabric
        self._networks = networks

    def own_disks(self, vm: VM, manifest: Manifest) -> tuple[OwnDisk, ...]:
        return own_disks(vm, manifest, self._places)

    async def copy_own(self, vm: VM, manifest: Manifest, directory: Path) -> None:
        """Copy what the VM has written into ``directory``. Nobody writes to it meanwhile."""
        for disk in self.own_disks(vm, manifest):
            if disk.path.exists():
                await self._disks.copy_disk(disk.path, directory / disk.saved)

    async def install_own(self, vm: VM, manifest: Manifest, directory: Path) -> None:
        """Have the VM's disks be those that lie in ``directory``; one that does not lie there stays as it is."""
        for disk in self.own_disks(vm, manifest):
            if (directory / disk.saved).exists():
                await self._disks.copy_disk(directory / disk.saved, disk.path)

    @asynccontextmanager
    async def prepare(
        self, vm: VM, machine: Machine, manifest: Manifest, media: Mapping[str, Digest], *, boots: bool
    ) -> AsyncIterator[Files]:
        """Everything that a run needs, made ready and open until the context is left."""
        networks = await self._read_networks(vm)
        self._places.make(vm.uid)
        needed = {disk.content for disk in machine.disks if disk.content}
        if boots:
            needed |= {machine.kernel, machine.initramfs}
        try:
            async with asyncio.TaskGroup() as group:
                for digest in needed:
                    group.create_task(self._artifacts.verify(Digest(digest)))
                for own in self.own_disks(vm, manifest):
                    group.create_task(self._ensure_own(vm, own))
                group.create_task(self._networks.ensure_port(vm))
        except ExceptionGroup as group_of_errors:
            # The first of them is what somebody can act on; the others were cancelled or fail alike.
            raise first_of(group_of_errors) from group_of_errors
        paths = {own.serial: own.path for own in self.own_disks(vm, manifest)}
        with ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            disks = {}
            for disk in machine.disks:
                path = paths.get(disk.serial)
                opening = self._artifacts.open(Digest(disk.content)) if path is None else await self._disks.open_disk(path)
                disks[disk.serial] = keep(opening)
                if disk.format == "qcow2":
                    check_qcow2(opening, disk.serial)
            taps = {}
            for nic, network in zip(machine.networks, networks, strict=True):
                taps[nic.tap] = keep(await self._fabric.open_tap(nic.tap, plan_of(network).bridge))
            yield Files(
                kernel=keep(self._artifacts.open(machine.kernel)) if boots else -1,
                initramfs=keep(self._artifacts.open(machine.initramfs)) if boots else -1,
                disks=disks,
                taps=taps,
            )

    async def open_extra_disk(self, vm: VM, disk: ExtraDisk, place: int) -> tuple[BlockDevice, int]:
        """Make ready and open a disk of ``vm.spec``, as a running machine is given it at ``place``.

        Raises:
            NotFound: its artifact is not here. ChecksumMismatch, DiskFull, HostError.
        """
        wanted = own_disk(disk)
        device = _describe_disk(wanted, place)
        if wanted.readonly:
            assert wanted.artifact is not None
            await self._artifacts.verify(wanted.artifact)
            return device, self._artifacts.open(wanted.artifact)
        own = _place_own(vm, wanted, self._places)
        await self._ensure_own(vm, own)
        return device, await self._disks.open_disk(own.path)

    async def remove_extra_disk(self, vm: VM, name: str) -> None:
        """Give back a disk that is no longer in the VM's spec, and that nothing has open. Repeatable."""
        await self._disks.remove_disk(self._places.units / vm.uid / f"disk-{name}.img")

    async def open_card(self, vm: VM, index: int, place: int) -> tuple[NetworkDevice, int]:
        """Let card ``index`` of ``vm.status.addresses`` speak and open its tap, as a running machine is given it at ``place``.

        Raises:
            NotFound: the VM has no such card, or its network's bridge is not there. WrongState: somebody holds its tap.
        """
        if not 0 <= index < len(vm.status.addresses):
            raise NotFound(f"the VM {vm.name!r} has no network card {index}")
        await self._networks.ensure_port(vm)
        network = (await self._read_networks(vm))[index]
        tap = card_tap(vm.uid, index)
        device = NetworkDevice(mac=vm.status.addresses[index].mac, tap=tap, bus=place)
        return device, await self._fabric.open_tap(tap, plan_of(network).bridge)

    async def read_networks(self, vm: VM) -> tuple[Network, ...]:
        """That of each of its cards. Raises Unavailable when one is gone."""
        return await self._read_networks(vm)

    async def _ensure_own(self, vm: VM, own: OwnDisk) -> None:
        wanted = own.wanted
        if wanted is None:
            assert vm.spec.disk_mb is not None
            await self._disks.ensure_disk(own.path, vm.spec.disk_mb)
        elif wanted.artifact is None:
            assert wanted.size_mib is not None
            await self._disks.ensure_blank(own.path, wanted.size_mib)
        elif not own.path.exists():
            await self._artifacts.verify(wanted.artifact)
            source = self._artifacts.open(wanted.artifact)
            try:
                await self._disks.ensure_copy(source, own.path, wanted.size_mib)
            finally:
                os.close(source)

    async def _read_networks(self, vm: VM) -> tuple[Network, ...]:
        found = []
        for address in vm.status.addresses:
            network = await find_resource(self._store, Network, vm.meta.project, address.network)
            if network is None:
                raise Unavailable(f"its network {address.network!r} is gone")
            found.append(network)
        return tuple(found)


def first_of(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
