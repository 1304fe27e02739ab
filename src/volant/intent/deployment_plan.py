"""What a change of a deployment would make of it and of its VMs, told before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from volant.core.changes import Difference, compare_configs, describe_config
from volant.core.deployment import REVISION_LABEL, Deployment, DeploymentRevision, wanted_replicas
from volant.core.rollout_preview import Preview, ReplicaNow, preview_change
from volant.core.vm import VM, VMSpec
from volant.intent.deployment_history import RevisionHistory
from volant.store.contract import Key, Store

NOT_COMPARED = frozenset({"vm", "vm_labels", "target", "promoted"})
"""Fields that are told by what replicas would be."""


class DeploymentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``preview``: names of VMs. ``taken``: those that would be made, but are another's. ``differences`` are by path; those under
    ``vm`` and ``vm_labels`` replace VMs."""

    after: Deployment
    preview: Preview
    taken: tuple[str, ...]
    differences: tuple[Difference, ...]


async def plan_change(
    store: Store,
    history: RevisionHistory,
    before: Deployment | None,
    old: DeploymentRevision | None,
    after: Deployment,
    new: DeploymentRevision | None,
) -> DeploymentPlan:
    """``old`` is the revision that ``before`` is aimed at; ``new`` is the one that would be written with ``after``."""
    own = [] if before is None else await history.list_replicas(before)
    replicas = [vm for vm in own if not vm.deleting]
    revisions = {} if before is None else {str(one.spec.number): one for one in await history.list_of(before)}
    differences: tuple[Difference, ...] = ()
    if before is not None and old is not None:
        differences = (*_compare_specs(before, after), *compare_replicas(old, (new or old).spec.vm, after.spec.vm_labels))
    target = new or old
    now = [ReplicaNow(name=vm.name, current=after.spec.paused or _is_of(vm, revisions, target)) for vm in replicas]
    preview = preview_change(after.name, now, wanted_replicas(after), False, after.spec.strategy)
    # The name of one of its own that is on its way out is free in time.
    free = {vm.name for vm in own}
    taken: list[str] = []
    for name in (*preview.created, *preview.passing):
        if name not in free and await store.get(Key(VM.kind, after.meta.project, name)) is not None:
            taken.append(name)
    return DeploymentPlan(after=after, preview=preview, taken=tuple(taken), differences=differences)


def compare_replicas(old: DeploymentRevision, vm: VMSpec, labels: dict[str, str]) -> tuple[Difference, ...]:
    """How replicas of ``vm`` and ``labels`` differ from those of ``old``: by paths under ``vm`` and ``vm_labels``."""
    found = compare_configs(describe_config(old.spec.vm, old.spec.vm_labels), describe_config(vm, labels))
    return tuple(
        msgspec.structs.replace(
            each, path=f"vm_{each.path}" if each.path.startswith("labels.") else f"vm.{each.path}", effect="replace"
        )
        for each in found
    )


def _is_of(vm: VM, revisions: dict[str, DeploymentRevision], target: DeploymentRevision | None) -> bool:
    """Whether it stays, as its controller will judge: two revisions with one hash are the same."""
    own = revisions.get(vm.meta.labels.get(REVISION_LABEL, ""))
    return own is not None and target is not None and own.spec.hash == target.spec.hash


def _compare_specs(before: Deployment, after: Deployment) -> Iterator[Difference]:
    old, new = _expand(before.spec), _expand(after.spec)
    yield from _compare({"labels": before.meta.labels, **old}, {"labels": after.meta.labels, **new}, "")


def _expand(value: Any) -> Any:
    """As it is written, with what is left to its default written out."""
    if isinstance(value, msgspec.Struct):
        return {field: _expand(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_expand(one) for one in value]
    return value


def _compare(before: dict[str, Any], after: dict[str, Any], prefix: str) -> Iterator[Difference]:
    for field in [*after, *(field for field in before if field not in after)]:
        if not prefix and field in NOT_COMPARED:
            continue
        old, new = before.get(field), after.get(field)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _compare(old, new, f"{prefix}{field}.")
        elif old != new:
            yield Difference(path=f"{prefix}{field}", before=old, after=new)
