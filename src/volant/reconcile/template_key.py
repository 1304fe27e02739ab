"""The key of a template: a digest over everything that decides what is in it. Where one of these differs, so does the key, and
a template of another key is never looked at."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import lru_cache
from pathlib import Path

import msgspec

from volant.core.ids import Digest
from volant.core.manifest import Manifest
from volant.core.template import TemplateKind
from volant.core.vm import VMSpec
from volant.hypervisor.machine import Machine

FORMAT = 1
"""Raised by one when what lies in a template, or how it is taken, changes."""

_TSC = re.compile(r"\btsc_early_khz=(\d+)")
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features")


def derive_template_key(
    machine: Machine,
    media: dict[str, Digest],
    spec: VMSpec,
    manifest: Manifest,
    kind: TemplateKind,
    *,
    project: str,
    cpu: str | None = None,
) -> str:
    """64 hexadecimal digits. ``machine`` is resolved; ``media`` are the digests of all files by role.

    kestrel is part of the initramfs and so of its digest. One that was taken after the workload ran belongs to its project,
    and to the workload as the manifest describes it.
    """
    parts = {
        "format": FORMAT,
        "kind": kind,
        "media": media,
        "cpu_cores": machine.cpu_cores,
        "memory_mib": machine.memory_mib,
        "disk_mib": spec.disk_mb if spec.root == "disk" else 0,
        "disks": machine.disks,
        "networks": [network.bus for network in machine.networks],
        "balloon": machine.balloon,
        "channel": machine.channel,
        "hypervisor": (machine.hypervisor, machine.hypervisor_version, machine.hypervisor_build),
        "machine_type": machine.machine_type,
        "accelerator": machine.accelerator,
        "cpu_model": machine.cpu_model,
        "cmdline": _round_tsc(machine.kernel_cmdline),
        "cpu": read_cpu() if cpu is None else cpu,
        "workload": (
            project,
            spec.root,
            spec.restart_policy,
            manifest.workload,
            manifest.health_check,
            manifest.probes,
            manifest.lifecycle.post_start,
        )
        if kind == "ready"
        else None,
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


@lru_cache(maxsize=1)
def read_cpu() -> str:
    """A digest of what the host's processor is and can do; the clock of the moment is no part of it."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return platform.machine()
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU_FIELDS]
    return hashlib.sha256("\n".join([platform.machine(), *lines]).encode()).hexdigest()[:32]


def _round_tsc(cmdline: str) -> str:
    """The measured rate differs by a few parts in a million from boot to boot of the host; a guest does not mind."""
    return _TSC.sub(lambda found: f"tsc_early_mhz={round(int(found[1]) / 1000)}", cmdline)
