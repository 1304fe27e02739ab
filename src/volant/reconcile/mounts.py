"""Where a guest mounts the disks that its plugin brings."""

from __future__ import annotations

from volant.core.disks import extra_disks
from volant.core.manifest import Manifest
from volant.core.vm import VM
from volant.guest import document
from volant.guest.protocol import Hello
from volant.reconcile.guest_demands import AgentTooOld

MOUNTS = "mounts"
"""The agent's capability to mount further disks."""


def describe_mounts(vm: VM, manifest: Manifest) -> tuple[document.Mount, ...]:
    return tuple(
        document.Mount(disk=disk.name, path=disk.target, readonly=disk.readonly)
        for disk in extra_disks(vm.spec, manifest)
        if disk.target
    )


def check_mounts(mounts: tuple[document.Mount, ...], hello: Hello | None) -> None:
    """Raises AgentTooOld when the agent would pass over what it is told to mount."""
    if mounts and hello is not None and MOUNTS not in hello.capabilities:
        raise AgentTooOld(f"its agent, {hello.agent}, is too old to mount its disks: build its plugin again")
