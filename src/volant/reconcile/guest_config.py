"""The configuration document of one run: what a waiting agent is told about who it is."""

from __future__ import annotations

import msgspec

from volant.core.errors import InvalidInput
from volant.core.manifest import Manifest, signal_number, split_base_url
from volant.core.network import Network
from volant.core.vm import VM
from volant.guest import document

DISK_SERIAL = "data"
ROOTFS_SERIAL = "rootfs"
INITIAL_BACKOFF_MS = 500
MAX_BACKOFF_MS = 30_000
RESET_AFTER_MS = 60_000
PROBE_WHILE_STARTING_MS = 50


def build_document(
    vm: VM,
    manifest: Manifest,
    network: Network,
    *,
    secret: bytes,
    entropy: bytes,
    unix_ns: int,
    nameservers: tuple[str, ...] = (),
    device_mac: str = "",
) -> document.Document:
    """What ``vm`` is told at the start of a run, or when it becomes another machine. ``entropy`` must be fresh each time.

    ``device_mac`` is what its network device has when it is not the VM's own. A VM without an address has no interface.
    """
    addresses = [address for address in vm.status.addresses[:1] if address.ip]
    workload = manifest.workload
    return document.Document(
        channel_secret=secret.hex(),
        entropy=entropy.hex(),
        unix_ns=unix_ns,
        hostname="parked" if vm.spec.power == "parked" else vm.name,
        machine_id=vm.uid,
        network=document.Network(
            interfaces=tuple(
                document.Interface(
                    mac=address.mac,
                    device_mac=device_mac or msgspec.UNSET,
                    name="eth0",
                    address=f"{address.ip}/{address.prefix_length}",
                    gateway=address.gateway,
                    mtu=network.spec.mtu,
                )
                for address in addresses
            ),
            nameservers=nameservers if addresses else (),
            hosts={address.ip: (vm.name,) for address in addresses},
        ),
        root=_root_of(vm, manifest),
        workloads=(
            document.Workload(
                name="main",
                argv=workload.entrypoint,
                env={**workload.env, **vm.spec.env},
                user=workload.user,
                workdir=workload.workdir,
                stop_signal=signal_number(workload.stop_signal),
                restart=document.Restart(
                    policy=vm.spec.policy,
                    initial_backoff_ms=INITIAL_BACKOFF_MS,
                    max_backoff_ms=MAX_BACKOFF_MS,
                    reset_after_ms=RESET_AFTER_MS,
                ),
                health=_health_of(manifest),
            ),
        ),
    )


def _root_of(vm: VM, manifest: Manifest) -> document.Root:
    if manifest.rootfs is None:
        return document.Root(writable="none")
    if vm.spec.root == "ephemeral":
        return document.Root(writable="memory")
    return document.Root(writable="disk", disk=DISK_SERIAL)


def _health_of(manifest: Manifest) -> document.HttpHealth | msgspec.UnsetType:
    check = manifest.health_check
    if check is None:
        return msgspec.UNSET
    if not manifest.workload.base_url:
        raise InvalidInput("a health check needs to know where the workload listens", field="workload.base_url")
    host, port = split_base_url(manifest.workload.base_url)
    return document.HttpHealth(
        host="127.0.0.1" if host == "localhost" else host,
        port=port,
        path=check.endpoint,
        interval_ms=check.interval_ms,
        timeout_ms=check.timeout_ms or 1000,
        start_interval_ms=PROBE_WHILE_STARTING_MS,
        unhealthy_threshold=check.unhealthy_threshold,
    )
