"""What a VM gets where its spec leaves it open."""

from __future__ import annotations

import msgspec

from volant.core.manifest import Manifest, read_auto_suspend
from volant.core.probe import Probes
from volant.core.snapshot import Snapshot
from volant.core.vm import VMSpec


def fill_in(spec: VMSpec, manifest: Manifest) -> VMSpec:
    """``spec`` with what it leaves open as the plugin's manifest says; ``ports`` stay open."""
    resources = manifest.resources
    return msgspec.structs.replace(
        spec,
        cpu_cores=resources.cpu_cores if spec.cpu_cores is None else spec.cpu_cores,
        memory_mb=resources.memory_mb if spec.memory_mb is None else spec.memory_mb,
        disk_mb=resources.disk_mb if spec.disk_mb is None else spec.disk_mb,
        restart_policy=manifest.workload.restart.policy if spec.restart_policy is None else spec.restart_policy,
        stop_grace_s=manifest.workload.stop_grace_s if spec.stop_grace_s is None else spec.stop_grace_s,
        network_mode=manifest.network.mode if spec.network_mode is None else spec.network_mode,
        limits=resources.limits if spec.limits is None else spec.limits,
        auto_suspend_s=read_auto_suspend(manifest) if spec.auto_suspend_s is None else spec.auto_suspend_s,
    )


def fit_command(manifest: Manifest, spec: VMSpec) -> Manifest:
    """``manifest`` for a VM that runs a command instead: its probes and hooks are about what does not run then."""
    if not spec.command:
        return manifest
    lifecycle = msgspec.structs.replace(manifest.lifecycle, post_start=None, pre_stop=None)
    return msgspec.structs.replace(manifest, health_check=None, probes=Probes(), lifecycle=lifecycle)


def shape_as(spec: VMSpec, snapshot: Snapshot) -> VMSpec:
    """``spec`` in the shape of what was saved, which is the only one that can go on from it."""
    status = snapshot.status
    return msgspec.structs.replace(
        spec,
        plugin=status.plugin,
        cpu_cores=status.cpu_cores,
        memory_mb=status.memory_mb,
        disk_mb=status.disk_mb,
        root=status.root,
        network_mode=status.network_mode,
        extra_networks=status.extra_networks if len(spec.extra_networks) != len(status.extra_networks) else spec.extra_networks,
        disks=status.disks,
    )
