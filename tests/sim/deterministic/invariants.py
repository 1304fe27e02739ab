"""What must hold after every transaction, whatever failed before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from volant.core.amount import count_amount
from volant.core.claim import ip_claim_name, mac_claim_name, port_claim_name, slot_claim_name
from volant.core.clock import Clock
from volant.core.deployment import Strategy
from volant.core.moment import parse_time, seconds_left
from volant.store.contract import Key

from .registry import Broken, Registry
from .remembered import Remembered

Data = dict[str, Any]
Changed = tuple[Key, Data | None, Data | None]

MEMORY_S = 30.0
"""A controller may act on what was true so long ago: what it read may lag behind, and its own steps take time."""


class Invariants:
    """Looks at what a transaction changed, and at what that touches; never at everything."""

    def __init__(self, registry: Registry, clock: Clock, may_evict: Callable[[str], bool]) -> None:
        self._may_evict = may_evict
        self._registry = registry
        self._clock = clock
        self._last_available: dict[str, float] = {}
        """By uid of a replica: when it was available for the last time, until it is stopped on purpose."""
        self.own_names: dict[str, None] = {}
        """Of VMs that people asked for: a replica that wanted one of them has another."""
        self.ever_swapped: dict[str, None] = {}
        """Uids of deployments that were blue-green at some time: their replicas keep whatever names they had."""
        self._limits = Remembered[tuple[int, int, int]](clock, MEMORY_S)
        """By uid of a deployment: so many replicas it may have, so many its strategy wants available, so many its budget."""

    def check(self, changed: Sequence[Changed], by: str | None) -> None:
        """``by`` says who wrote it, as ASKED_BY does; None when that is not known. Raises Broken."""
        owners: dict[str, None] = {}
        for key, old, new in changed:
            data = new or old
            assert data is not None
            match key.kind:
                case "VM":
                    owners[data["meta"]["uid"]] = None
                    self._check_vm(key, old, new, by)
                case "Claim":
                    owners[data["spec"]["owner_uid"]] = None
                case "Deployment":
                    self._note_limits(data)
                    self._check_autoscale(key, old, new)
            if new is None and old is not None and key.kind in ("VM", "Deployment"):
                self._check_deleted(key, old)
        for uid in owners:
            self._check_claims(uid)

    def _check_deleted(self, key: Key, old: Data) -> None:
        if not old["meta"]["deleting_at"] and old["spec"].get("power") != "parked":
            raise Broken(f"{key} was removed and nobody had deleted it")

    # Claims

    def _check_claims(self, uid: str) -> None:
        held = {claim["meta"]["name"] for claim in self._registry.owned(uid, "Claim")}
        key = self._registry.by_uid.get(uid)
        if key is None:
            if held:
                raise Broken(f"claims without an owner: {', '.join(sorted(held))}")
            return
        if key.kind != "VM":
            return
        missing = expected_claims(self._registry.records[key]) - held
        if missing:
            raise Broken(f"{key} has no claim {', '.join(sorted(missing))}")

    # VMs

    def _check_vm(self, key: Key, old: Data | None, new: Data | None, by: str | None) -> None:
        data = new or old
        assert data is not None
        owner = self._registry.by_uid.get(data["meta"].get("owner") or "")
        uid = data["meta"]["uid"]
        if owner is None and not data["meta"].get("owner"):
            self.own_names[key.name] = None
            if new is not None and old is not None and by == "" and old["meta"]["uid"] == uid:
                self._check_untouched(key, old, new)
            return
        if owner is None or owner.kind != "Deployment":
            return
        deployment = self._registry.records[owner]
        if old is None and new is not None and not deployment["meta"]["deleting_at"]:
            self._check_surge(deployment, new)
        now_s = self._clock.monotonic()
        was_available = self._was_available(old, deployment)
        if was_available:
            self._last_available[uid] = now_s
        if new is not None and old is not None and is_stopping(new) and not is_stopping(old):
            if by in ("", "user") and not deployment["meta"]["deleting_at"] and self._is_surely_available(old, deployment):
                self._check_available(deployment, uid, by == "user", is_moved=self._may_evict(old["status"]["node"]))
            self._last_available.pop(uid, None)
        if new is not None and not is_stopping(new) and self._was_available(new, deployment):
            self._last_available[uid] = now_s

    def _check_untouched(self, key: Key, old: Data, new: Data) -> None:
        """Nobody but who made it decides what a VM is to be."""
        if new["meta"]["deleting_at"] and not old["meta"]["deleting_at"]:
            raise Broken(f"{key} is nobody's replica and was deleted by a controller")
        differs = sorted(field for field in new["spec"] if new["spec"][field] != old["spec"].get(field))
        if differs and not (differs == ["power"] and new["spec"]["power"] == "suspended" and old["spec"]["auto_suspend_s"]):
            raise Broken(f"a controller changed {', '.join(differs)} of {key}, which somebody had asked for")

    # Deployments

    def _note_limits(self, deployment: Data) -> None:
        if deployment["spec"]["strategy"].get("type") == "blue-green":
            self.ever_swapped[deployment["meta"]["uid"]] = None
        self._limits.note(deployment["meta"]["uid"], (*replica_limits(deployment), budget_limit(deployment)))

    def _check_autoscale(self, key: Key, old: Data | None, new: Data | None) -> None:
        autoscale = None if new is None else new["spec"]["autoscale"]
        if new is None or old is None or not autoscale:
            return
        said, before = new["status"]["autoscale"]["replicas"], old["status"]["autoscale"]["replicas"]
        if said != before and said is not None and not autoscale.get("min", 1) <= said <= autoscale["max"]:
            raise Broken(f"{key} is scaled to {said}, and may be between {autoscale.get('min', 1)} and {autoscale['max']}")

    def _check_surge(self, deployment: Data, new: Data) -> None:
        there = len(self._registry.owned(deployment["meta"]["uid"], "VM"))
        self._note_limits(deployment)
        most = max(most for most, _, _ in self._limits.of(deployment["meta"]["uid"]))
        if there > most:
            name = deployment["meta"]["name"]
            raise Broken(f"{new['meta']['name']} is VM {there} of deployment {name}, which may have {most}")

    def _check_available(self, deployment: Data, victim: str, by_user: bool, *, is_moved: bool) -> None:
        """A replica that is available may be taken only while enough others are: for the budget where a user does or its node
        does not keep it, else for the strategy."""
        now_s = self._clock.monotonic()
        uids = {vm["meta"]["uid"] for vm in self._registry.owned(deployment["meta"]["uid"], "VM") if not is_stopping(vm)}
        recently = {victim} | {
            uid
            for uid in uids
            if self._last_available.get(uid, float("-inf")) >= now_s - MEMORY_S or self._is_available(uid, deployment)
        }
        self._note_limits(deployment)
        limits = self._limits.of(deployment["meta"]["uid"])
        least = min(budget if by_user else min(least, budget) if is_moved else least for _, least, budget in limits)
        if len(recently) - 1 < least:
            name = deployment["meta"]["name"]
            raise Broken(f"a replica of {name} was stopped on purpose while {len(recently)} were available and {least} must stay")

    def _is_available(self, uid: str, deployment: Data) -> bool:
        key = self._registry.by_uid.get(uid)
        return key is not None and self._was_available(self._registry.records[key], deployment)

    def _is_surely_available(self, vm: Data, deployment: Data) -> bool:
        """For so long that whoever stops it has seen that: a record says when it became ready, and nobody when its time had
        come."""
        min_ready_s = deployment["spec"]["min_ready_s"]
        now = self._clock.now()
        return is_available(vm, min_ready_s + MEMORY_S if min_ready_s else 0, now) and parse_time(_ready_since(vm)) <= now

    def _was_available(self, vm: Data | None, deployment: Data) -> bool:
        return vm is not None and is_available(vm, deployment["spec"]["min_ready_s"], self._clock.now())


def is_stopping(vm: Data) -> bool:
    return bool(vm["meta"]["deleting_at"]) or vm["spec"]["power"] != "running" or _is_restarting(vm)


def _is_restarting(vm: Data) -> bool:
    started = vm["status"].get("started_token")
    return started is not None and bool(vm["spec"]["restart_token"] != started)


def is_available(vm: Data, min_ready_s: float, now: datetime) -> bool:
    since = _ready_since(vm)
    if not since or not vm["status"]["ready"] or is_stopping(vm):
        return False
    # What is yet to come was written before the clock was put back, and nobody waits for it again.
    return not min_ready_s or seconds_left(parse_time(since), min_ready_s, now) <= 0


def _ready_since(vm: Data) -> str:
    return next((each["last_transition_at"] for each in vm["status"]["conditions"] if each["type"] == "Ready"), "")


def wanted_of(deployment: Data) -> int:
    spec = deployment["spec"]
    autoscale, said = spec["autoscale"], deployment["status"]["autoscale"]["replicas"]
    if autoscale is None:
        return int(spec["replicas"])
    return int(min(max(spec["replicas"] if said is None else said, autoscale.get("min", 1)), autoscale["max"]))


def replica_limits(deployment: Data) -> tuple[int, int]:
    """``(most, least)``: VMs that there may be, and replicas that must stay available while they are stopped on purpose."""
    wanted = wanted_of(deployment)
    strategy = msgspec.convert(deployment["spec"]["strategy"], Strategy)
    surge = count_amount(strategy.max_surge, wanted, up=True)
    unavailable = count_amount(strategy.max_unavailable, wanted, up=False)
    if not surge and not unavailable and strategy.type in ("rolling", "canary"):
        unavailable = 1
    match strategy.type:
        case "recreate":
            return wanted, 0
        case "blue-green":
            return 2 * wanted, wanted - unavailable
    return wanted + surge, wanted - unavailable


def budget_limit(deployment: Data) -> int:
    """So many replicas must stay available when people stop some; 0 when nothing is said."""
    wanted, budget = wanted_of(deployment), deployment["spec"]["budget"]
    unavailable, available = budget.get("max_unavailable"), budget.get("min_available")
    return max(
        0 if unavailable is None else wanted - count_amount(unavailable, wanted, up=True),
        0 if available is None else count_amount(available, wanted, up=True),
    )


def expected_claims(vm: Data) -> set[str]:
    status = vm["status"]
    names = {mac_claim_name(address["mac"]) for address in status["addresses"]}
    names |= {ip_claim_name(address["network"], address["ip"]) for address in status["addresses"] if address["ip"]}
    if status["slot"] is not None:
        names.add(slot_claim_name(status["node"], status["slot"]))
    for port in vm["spec"]["ports"] or ():
        names.add(port_claim_name(vm["spec"]["network"], port.get("protocol", "tcp"), port["host_port"]))
    return names
