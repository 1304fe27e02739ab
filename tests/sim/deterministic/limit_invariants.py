"""What quotas and nodes promise: what is counted is what there is, and nothing comes where nothing may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volant.core.clock import Clock
from volant.core.quota import QuotaStatus
from volant.core.usage import FIELDS, NOTHING, add_usage, usage_in
from volant.store.contract import Key

from .invariants import MEMORY_S, Changed
from .registry import Broken, Registry
from .remembered import Remembered

Data = dict[str, Any]

SETTLED_S = 60.0
"""So long after a quota was made there may be somebody who had begun before and does not know of it."""

COUNTED = {"Deployment": QuotaStatus(deployments=1), "Job": QuotaStatus(jobs=1)}


class QuotaInvariants:
    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._used: dict[str, QuotaStatus] = {}
        """By project: what there is."""
        self._made_s: dict[str, float] = {}
        self._was_right: dict[str, bool] = {}

    def check(self, changed: Sequence[Changed], by: str | None) -> None:
        grown: dict[str, set[str]] = {}
        for key, old, new in changed:
            before, after = _usage(key, old), _usage(key, new)
            if key.kind == "Quota" and new is not None:
                self._made_s.setdefault(new["meta"]["uid"], self._clock.monotonic())
            if before == after:
                continue
            used = self._used.get(key.project, NOTHING)
            self._used[key.project] = add_usage(add_usage(used, before, -1), after)
            grown.setdefault(key.project, set()).update(name for name in FIELDS if getattr(after, name) > getattr(before, name))
        for project in sorted({key.project for key, _, _ in changed if key.kind in ("Quota", "VM", "Deployment", "Job")}):
            for key, quota in self._registry.of_kind("Quota"):
                if key.project == project:
                    self._check_quota(key, quota, grown.get(project, set()))

    def _check_quota(self, key: Key, quota: Data, grown: set[str]) -> None:
        uid, spec, used = quota["meta"]["uid"], quota["spec"], self._used.get(key.project, NOTHING)
        is_right = self._is_right(key, quota)
        is_settled = self._clock.monotonic() - self._made_s[uid] > SETTLED_S
        if is_settled and self._was_right.get(uid) and not is_right:
            raise Broken(f"{key} says that {quota['status']} are used, and {used} are")
        if is_right and self._was_right.get(uid):
            over = sorted(name for name in grown if spec[name] is not None and getattr(used, name) > spec[name])
            if over:
                words = ", ".join(f"{getattr(used, name)} {name} and {spec[name]} may be" for name in over)
                raise Broken(f"{key} was exceeded: there are {words}")
        self._was_right[uid] = is_right

    def _is_right(self, key: Key, quota: Data) -> bool:
        used = self._used.get(key.project, NOTHING)
        return all(quota["status"][name] == getattr(used, name) for name in FIELDS)

    def wrong(self) -> list[str]:
        """Quotas that do not say what is used."""
        quotas = self._registry.of_kind("Quota")
        return [
            f"{key} says that {quota['status']} are used, and {self._used.get(key.project, NOTHING)} are"
            for key, quota in quotas
            if not self._is_right(key, quota)
        ]


def _usage(key: Key, data: Data | None) -> QuotaStatus:
    if data is None:
        return NOTHING
    return usage_in(data) if key.kind == "VM" else COUNTED.get(key.kind, NOTHING)


class NodeInvariants:
    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._closed = Remembered[bool](clock, MEMORY_S)
        self._evicts = Remembered[bool](clock, MEMORY_S)

    def may_evict(self, node: str) -> bool:
        """Whether what is on it may be taken away, as budgets allow."""
        return any(self._evicts.of(node))

    def check(self, changed: Sequence[Changed], by: str | None) -> None:
        for key, old, new in changed:
            if key.kind == "Node" and new is not None:
                self._closed.note(key.name, is_closed(new))
                self._evicts.note(
                    key.name, any(taint.get("effect", "NoSchedule") == "NoExecute" for taint in new["spec"]["taints"])
                )
            if key.kind == "VM" and new is not None and _place(new) and _place(new) != _place(old):
                node = _place(new)
                if all(self._closed.of(node)):
                    raise Broken(f"{key} was placed on {node}, which takes nothing new")


def is_closed(node: Data) -> bool:
    """Whether nothing of what is asked for here may come to it."""
    taints = node["spec"]["taints"]
    return bool(node["spec"]["unschedulable"] or any(taint.get("effect", "NoSchedule") != "PreferNoSchedule" for taint in taints))


def _place(vm: Data | None) -> str:
    """The node that it has a slot on; what has one may start there again, whatever becomes of the node."""
    return str(vm["status"]["node"]) if vm is not None and vm["status"]["slot"] is not None else ""
