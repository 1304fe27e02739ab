"""What somebody changed by hand of a replica, and how it is put back."""

from __future__ import annotations

import msgspec

from volant.core.changes import CONFIGURATION, compare_configs, describe_config, find_changes
from volant.core.deployment import DEPLOYMENT_LABEL, REVISION_LABEL, DeploymentRevision
from volant.core.vm import VM, VMSpec

_NOT_WRITTEN = ("plugin", "network", "ports", "extra_networks", "disks", "disk_mb")
"""A VM with another of these is replaced: claims, cards or files go with them, or they only grow."""

_SETTLED = ("network_mode",)
"""The network decides it when the VM is made, and nobody changes it afterwards."""

_WRITTEN = tuple(field for field in CONFIGURATION if field not in (*_NOT_WRITTEN, *_SETTLED))


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """``paths``: what differs from the replica's revision. ``replace``: it cannot be put back in the VM that is there."""

    paths: tuple[str, ...]
    replace: bool = False


def label_replica(deployment: str, revision: DeploymentRevision) -> dict[str, str]:
    return {**revision.spec.vm_labels, DEPLOYMENT_LABEL: deployment, REVISION_LABEL: str(revision.spec.number)}


def describe_replica(revision: DeploymentRevision) -> VMSpec:
    """The spec of a replica of ``revision``. Its ports are the deployment's, never its own."""
    return msgspec.structs.replace(revision.spec.vm, ports=(), power="running")


def find_drift(vm: VM, revision: DeploymentRevision) -> Drift | None:
    """Where ``vm`` is not as ``revision`` made it. Labels that were added are nobody's business here."""
    spec = describe_replica(revision)
    wanted = {**vm.meta.labels, **label_replica(revision.spec.deployment, revision)}
    unwritten = tuple(
        field for field in find_changes(vm.spec, spec, _NOT_WRITTEN) if getattr(spec, field) is not None or field == "ports"
    )
    written = find_changes(vm.spec, spec, _WRITTEN)
    if wanted == vm.meta.labels and not written and not unwritten:
        return None
    fields = {"labels", *written, *unwritten}
    found = compare_configs(describe_config(vm.spec, vm.meta.labels), describe_config(spec, wanted))
    paths = tuple(each.path for each in found if each.path.partition(".")[0] in fields)
    return Drift(paths=paths, replace=bool(unwritten))


def repair(vm: VM, revision: DeploymentRevision) -> VM:
    """``vm`` as ``revision`` says, as far as it can be put back."""
    spec = describe_replica(revision)
    changed = {field: getattr(spec, field) for field in _WRITTEN}
    labels = {**vm.meta.labels, **label_replica(revision.spec.deployment, revision)}
    meta = msgspec.structs.replace(vm.meta, labels=labels, generation=vm.meta.generation + 1)
    return msgspec.structs.replace(vm, meta=meta, spec=msgspec.structs.replace(vm.spec, **changed))


def with_power_again(vm: VM) -> VM:
    """``vm`` asked to run, after somebody stopped it or put it to sleep."""
    token = vm.spec.restart_token + (1 if vm.spec.power == "stopped" else 0)
    spec = msgspec.structs.replace(vm.spec, power="running", restart_token=token, force_stop=False)
    return msgspec.structs.replace(vm, meta=msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1), spec=spec)
