"""The configuration document of one run: what a waiting agent is told about who it is."""

from __future__ import annotations

import msgspec

from volant.core.manifest import Manifest
from volant.core.signals import signal_number
from volant.core.vm import VM
from volant.guest import document
from volant.reconcile.guest_demands import demand_health, demand_hooks, demand_probes, demand_ulimits

DISK_SERIAL = "data"
ROOTFS_SERIAL = "rootfs"
LEAST_GRACE_MS = 1


def build_document(
    vm: VM,
    manifest: Manifest,
    *,
    secret: bytes,
    entropy: bytes,
    unix_ns: int,
    network: document.Network,
) -> document.Document:
    """What ``vm`` is told at the start of a run, or when it becomes another machine. ``entropy`` must be fresh each time.

    ``network`` is what guest_network.py makes of its cards.
    """
    workload = manifest.workload
    restart = workload.restart
    return document.Document(
        channel_secret=secret.hex(),
        entropy=entropy.hex(),
        unix_ns=unix_ns,
        hostname="parked" if vm.spec.power == "parked" else vm.name,
        machine_id=vm.uid,
        network=network,
        root=_root_of(vm, manifest),
        workloads=(
            document.Workload(
                name="main",
                argv=vm.spec.command or workload.entrypoint,
                env={**workload.env, **vm.spec.env},
                user=workload.user,
                workdir=workload.workdir,
                stop_signal=signal_number(workload.stop_signal),
                stop_grace_ms=max(LEAST_GRACE_MS, vm.spec.grace_s * 1000),
                restart=document.Restart(
                    policy=vm.spec.policy,
                    initial_backoff_ms=restart.initial_backoff_ms,
                    max_backoff_ms=restart.max_backoff_ms,
                    reset_after_ms=restart.reset_after_ms,
                    max_restarts=restart.max_restarts,
                ),
                health=demand_health(manifest),
                probes=demand_probes(manifest),
                hooks=demand_hooks(manifest),
                ulimits=demand_ulimits(workload),
                tty=workload.tty or msgspec.UNSET,
                stdin=workload.stdin or msgspec.UNSET,
            ),
        ),
    )


def _root_of(vm: VM, manifest: Manifest) -> document.Root:
    if manifest.rootfs is None:
        return document.Root(writable="none")
    if vm.spec.root == "ephemeral":
        return document.Root(writable="memory")
    return document.Root(writable="disk", disk=DISK_SERIAL)
