"""What a change of a VM's spec needs before the run has it: nothing, a word to the run, a restart; or it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.vm import VMSpec

Effect = Literal["live", "applied", "restart", "immutable", "steering"]
"""``live``: volantd alone acts on it, at once. ``applied``: the run is told, where its hypervisor or agent can be; else as
``restart``: the next run has it. ``immutable``: never. ``steering``: no configuration;
verbs of the API change it."""

EFFECTS: dict[str, Effect] = {
    "plugin": "immutable",
    "cpu_cores": "restart",
    "memory_mb": "applied",
    "disk_mb": "restart",
    "root": "restart",
    "power": "steering",
    "start": "live",
    "snapshot": "steering",
    "snapshot_token": "steering",
    "ports": "live",
    "auto_suspend_s": "live",
    "restart_policy": "applied",
    "restart_token": "steering",
    "force_stop": "steering",
    "command": "restart",
    "env": "restart",
    "network": "immutable",
    "isolation": "restart",
    "stop_grace_s": "live",
    "hypervisor": "restart",
    "network_mode": "immutable",
    "extra_networks": "applied",
    "disks": "applied",
    "kernel": "restart",
    "initramfs": "restart",
    "kernel_cmdline": "restart",
    "limits": "applied",
    "placement": "live",
}

CONFIGURATION = tuple(field for field, effect in EFFECTS.items() if effect != "steering")
OF_THE_RUN = tuple(field for field, effect in EFFECTS.items() if effect in ("applied", "restart"))
"""Fields of which a run has a value of its own, from when it began or was told last."""

_VERBS = {
    "restart_token": "volar vms restart NAME",
    "snapshot": "volar snapshots restore SNAPSHOT",
    "snapshot_token": "volar snapshots restore SNAPSHOT",
    "force_stop": "volar vms stop NAME --force",
}


def find_changes(before: VMSpec, after: VMSpec, fields: tuple[str, ...] = tuple(EFFECTS)) -> tuple[str, ...]:
    """The fields, of ``fields``, in which two specs differ."""
    return tuple(field for field in fields if getattr(before, field) != getattr(after, field))


def check_changes(before: VMSpec, after: VMSpec, *, but: tuple[str, ...] = ()) -> None:
    """Return when a VM may change so; the fields ``but`` are judged by who calls.

    Raises:
        InvalidInput: a field cannot change, or not in this way; ``field`` names it.
    """
    for field in find_changes(before, after):
        if field in but:
            continue
        if EFFECTS[field] == "immutable":
            raise InvalidInput(
                f"{field} of a VM cannot be changed", field=field, hint="make another VM, and delete this one when it is there"
            )
        if field in _VERBS:
            raise InvalidInput(f"{field} is nothing that is configured", field=field, hint=_VERBS[field])
    _check_disks(before, after)
    if before.disk_mb is not None and after.disk_mb is not None and after.disk_mb < before.disk_mb:
        raise InvalidInput(f"a disk only grows, and it has {before.disk_mb} MiB", field="disk_mb")


def _check_disks(before: VMSpec, after: VMSpec) -> None:
    """A disk keeps what was written to it, so that under its name there is never another."""
    had = {disk.name: disk for disk in before.disks}
    for disk in after.disks:
        old = had.get(disk.name)
        if old is None or old == disk:
            continue
        if (old.artifact, old.readonly) != (disk.artifact, disk.readonly):
            raise InvalidInput(
                f"the disk {disk.name!r} cannot become another", field="disks", hint="give the new one another name"
            )
        if old.size_mb is not None and (disk.size_mb is None or disk.size_mb < old.size_mb):
            raise InvalidInput(f"a disk only grows, and {disk.name!r} has {old.size_mb} MiB", field="disks")


def describe_config(spec: VMSpec, labels: dict[str, str]) -> dict[str, Any]:
    """The configuration of a VM as a flat object: what a person decides, without what steers its run."""
    # As it is read from where it is kept: there are no tuples in JSON.
    document = msgspec.json.decode(msgspec.json.encode(spec))
    return {"labels": dict(labels), **{field: document[field] for field in CONFIGURATION}}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs; ``before`` or ``after`` is null where there is none. ``effect`` is what the change needs."""

    path: str
    before: Any = None
    after: Any = None
    effect: str = "live"


def compare_configs(before: dict[str, Any], after: dict[str, Any]) -> tuple[Difference, ...]:
    """Where two configurations differ, by path; one entry a label and a variable."""
    return tuple(_compare(before, after))


def _compare(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    for field in [*after, *(field for field in before if field not in after)]:
        old, new, effect = before.get(field), after.get(field), EFFECTS.get(field, "live")
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted({*old, *new}):
                if old.get(key) != new.get(key):
                    yield Difference(path=f"{field}.{key}", before=old.get(key), after=new.get(key), effect=effect)
        elif old != new:
            yield Difference(path=field, before=old, after=new, effect=effect)
