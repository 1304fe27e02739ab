"""How a run of a VM begins: what it needs is made ready, then it is launched, then the agent is told who it is."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Protocol

import msgspec

from volant.core.address import tap_name
from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import Unavailable
from volant.core.ids import Digest, RunId
from volant.core.manifest import Manifest
from volant.core.network import Network
from volant.core.plugin import Plugin, wanted_artifacts
from volant.core.vm import NETWORK_READY, VM, VMStatus
from volant.guest.document import encode_document
from volant.hypervisor.driver import Driver
from volant.hypervisor.machine import BlockDevice, Files, Machine, NetworkDevice
from volant.net.fabric import Fabric
from volant.node.local import LocalNode
from volant.node.run import Run
from volant.node.unit import read_secret
from volant.reconcile.guest_config import DISK_SERIAL, ROOTFS_SERIAL, build_document
from volant.reconcile.network import NetworkKeeper, plan_of
from volant.store.contract import Store
from volant.store.records import find_resource
from volant.volume.disk import Disks

ENTROPY_BYTES = 64


class Artifacts(Protocol):
    """What a start needs of the artifact store."""

    async def verify(self, digest: Digest) -> None: ...

    def open(self, digest: Digest) -> int: ...


class VMStarter:
    """The parts that a start puts together. Each step may be repeated; what a failed start opened is closed."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        driver: Driver,
        node: LocalNode,
        artifacts: Artifacts,
        disks: Disks,
        fabric: Fabric,
        networks: NetworkKeeper,
        nameservers: tuple[str, ...] = (),
        random_source: random.Random | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._driver = driver
        self._node = node
        self._artifacts = artifacts
        self._disks = disks
        self._fabric = fabric
        self._networks = networks
        self._nameservers = nameservers
        self._random_bytes = random_bytes
        self.random_source = random_source or random.Random()  # noqa: S311  # spreads retries, keeps no secret

    async def launch(self, vm: VM) -> Run:
        """Begin the run that ``vm.status.run_id`` names.

        Raises:
            VolantError: it could not be started; nothing of this start is left but the VM's own disk.
        """
        asked = self._clock.monotonic()
        _, manifest = await self._read_plugin(vm)
        network = await self._read_network(vm)
        digests = wanted_artifacts(manifest)
        machine = await self._driver.resolve(self._describe(vm, manifest, digests))
        if vm.spec.isolation == "hardware" and machine.accelerator != "kvm":
            raise Unavailable(
                "hardware isolation was asked for and this host cannot give it",
                hint="volar doctor says why KVM does not work here",
            )
        self._node.places.make(vm.uid)
        try:
            async with asyncio.TaskGroup() as group:
                for digest in digests.values():
                    group.create_task(self._artifacts.verify(digest))
                if self._has_disk(vm, manifest):
                    assert vm.spec.disk_mb is not None
                    group.create_task(self._disks.ensure_disk(self._node.places.disk(vm.uid), vm.spec.disk_mb))
                group.create_task(self._networks.ensure_port(vm))
        except ExceptionGroup as group_of_errors:
            # The first of them is what somebody can act on; the others were cancelled or fail alike.
            raise _first_of(group_of_errors) from group_of_errors
        plan = plan_of(network)
        with ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            initramfs = digests["boot_initramfs"] if manifest.rootfs is not None else digests["initramfs"]
            disks = {}
            if manifest.rootfs is not None:
                disks[ROOTFS_SERIAL] = keep(self._artifacts.open(digests["rootfs"]))
            if self._has_disk(vm, manifest):
                disks[DISK_SERIAL] = keep(await self._disks.open_disk(self._node.places.disk(vm.uid)))
            files = Files(
                kernel=keep(self._artifacts.open(digests["kernel"])),
                initramfs=keep(self._artifacts.open(initramfs)),
                disks=disks,
                taps={nic.tap: keep(await self._fabric.open_tap(nic.tap, plan.bridge)) for nic in machine.networks},
            )
            prepared = self._clock.monotonic()
            run = await self._node.launch(vm.uid, machine, files)
        run.marks["asked"] = asked
        run.marks["prepared"] = prepared
        return run

    async def configure(self, vm: VM, run: Run) -> None:
        """Tell the waiting agent who it is. A document once accepted stays; asking twice is answered and changes nothing."""
        if "configured" in run.marks:
            return
        _, manifest = await self._read_plugin(vm)
        network = await self._read_network(vm)
        document = build_document(
            vm,
            manifest,
            network,
            secret=read_secret(self._node.places.unit(vm.uid)),
            entropy=self._random_bytes(ENTROPY_BYTES),
            unix_ns=int(self._clock.now().timestamp() * 1e9),
            nameservers=self._nameservers,
        )
        await run.link.configure(encode_document(document))
        run.mark("configured")

    async def release_network(self, vm: VM) -> None:
        """Take down what a dead VM process may have left of its taps."""
        for _ in vm.status.addresses:
            await self._fabric.remove_tap(tap_name(vm.uid))

    def network_condition(self, vm: VM, now: datetime) -> VMStatus:
        """``vm.status`` with NetworkReady said."""
        address = vm.status.addresses[0]
        condition = Condition(
            type=NETWORK_READY, status="True", reason="Connected", message=f"{address.ip} on network {address.network}"
        )
        return msgspec.structs.replace(vm.status, conditions=set_condition(vm.status.conditions, condition, format_time(now)))

    async def has_health_check(self, vm: VM) -> bool:
        _, manifest = await self._read_plugin(vm)
        return manifest.health_check is not None

    def _describe(self, vm: VM, manifest: Manifest, digests: dict[str, Digest]) -> Machine:
        assert vm.status.slot is not None and vm.spec.cpu_cores is not None and vm.spec.memory_mb is not None
        disks: list[BlockDevice] = []
        words: list[str] = []
        if manifest.rootfs is not None:
            disks.append(BlockDevice(serial=ROOTFS_SERIAL, bus=0, readonly=True))
            words += [f"volant.rootfs_device={ROOTFS_SERIAL}", f"volant.rootfs_fstype={manifest.rootfs.filesystem}"]
        if self._has_disk(vm, manifest):
            disks.append(BlockDevice(serial=DISK_SERIAL, bus=1, readonly=False))
        return Machine(
            uid=vm.uid,
            run_id=RunId(vm.status.run_id),
            name=vm.name,
            slot=vm.status.slot,
            hypervisor=self._driver.name,
            cpu_cores=vm.spec.cpu_cores,
            memory_mib=vm.spec.memory_mb,
            kernel=digests["kernel"],
            initramfs=digests["boot_initramfs"] if manifest.rootfs is not None else digests["initramfs"],
            kernel_cmdline=" ".join(words),
            disks=tuple(disks),
            networks=tuple(NetworkDevice(mac=address.mac, tap=tap_name(vm.uid), bus=2) for address in vm.status.addresses[:1]),
        )

    def _has_disk(self, vm: VM, manifest: Manifest) -> bool:
        return manifest.rootfs is not None and vm.spec.root == "disk"

    async def _read_plugin(self, vm: VM) -> tuple[Plugin, Manifest]:
        plugin = await find_resource(self._store, Plugin, vm.meta.project, vm.spec.plugin)
        if plugin is None:
            raise Unavailable(f"its plugin {vm.spec.plugin!r} is not installed", hint="install it again, or delete the VM")
        return plugin, plugin.manifest

    async def _read_network(self, vm: VM) -> Network:
        network = await find_resource(self._store, Network, vm.meta.project, vm.spec.network)
        if network is None:
            raise Unavailable(f"its network {vm.spec.network!r} is gone")
        return network


def _first_of(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
