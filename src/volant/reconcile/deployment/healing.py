"""What is wrong with replicas, and what is done about each: replaced, repaired, or asked to run again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from volant.core.deployment import Deployment
from volant.reconcile.deployment.replica import Replica
from volant.reconcile.deployment.status import CRASH_LOOP_REPLACEMENTS
from volant.reconcile.recorder import Note

FORGIVEN_AFTER_S = 600.0
"""A replica that was available for so long begins a new row of failures."""

BACKOFF_FIRST_S = 10.0
BACKOFF_CAP_S = 600.0
AT_A_TIME = 16


class Watch(Protocol):
    """How long replicas have been unwell."""

    def unwell_s(self, deployment: Deployment, replica: Replica) -> float: ...


class Healing(msgspec.Struct, frozen=True, kw_only=True):
    """``replicas`` are all, as they will be: those that are replaced are going."""

    replicas: tuple[Replica, ...]
    replace: tuple[Replica, ...] = ()
    repair: tuple[Replica, ...] = ()
    wake: tuple[Replica, ...] = ()
    suspend: tuple[Replica, ...] = ()
    notes: tuple[Note, ...] = ()
    forgiven: tuple[int, ...] = ()
    next_s: float | None = None

    def count_replaced(self, before: dict[str, int], wanted: int, *, anew: bool) -> dict[str, int]:
        """How often in a row each index was replaced, from now on; ``anew``: another revision begins without any."""
        counts = {} if anew else {index: count for index, count in before.items() if int(index) not in self.forgiven}
        for replica in self.replace:
            counts[str(replica.index)] = counts.get(str(replica.index), 0) + 1
        return {index: count for index, count in counts.items() if int(index) < 2 * max(1, wanted) + 1}


def backoff_s(replaced: int) -> float:
    """How much longer than at first one is waited for that was replaced so often."""
    return 0.0 if replaced == 0 else min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2.0 ** min(replaced - 1, 16))


def heal(deployment: Deployment, replicas: Sequence[Replica], watch: Watch, now: datetime, *, sleeping: bool = False) -> Healing:
    spec, counts = deployment.spec, deployment.status.replaced
    replace: list[Replica] = []
    repair: list[Replica] = []
    wake: list[Replica] = []
    suspend: list[Replica] = []
    notes: list[Note] = []
    forgiven: list[int] = []
    waits: list[float] = []
    for replica in replicas:
        if replica.going:
            continue
        since = replica.ready_since
        if replica.available and since is not None and (now - since).total_seconds() >= FORGIVEN_AFTER_S:
            forgiven.append(replica.index)
        if replica.drift is not None and not replica.drift.replace:
            repair.append(replica)
            fields = ", ".join(replica.drift.paths)
            notes.append(Note("Normal", "Repaired", f"{replica.name} was changed by hand: {fields} is put back"))
        if replica.power != "running" and not replica.held and not sleeping:
            wake.append(replica)
            if deployment.status.phase == "Asleep":
                notes.append(Note("Normal", "Woken", f"{replica.name} goes on"))
            else:
                notes.append(Note("Normal", "Repaired", f"{replica.name} was {replica.power} by hand, and is to run again"))
        if sleeping and replica.available and replica.current and replica.index == min(one.index for one in replicas):
            suspend.append(replica)
            notes.append(Note("Normal", "Asleep", f"nobody needs it: {replica.name} is suspended until somebody does"))
        if replica.fault is None:
            continue
        count = counts.get(str(replica.index), 0)
        left = spec.replace_after_s + backoff_s(count) - watch.unwell_s(deployment, replica)
        if left > 0:
            waits.append(left)
        elif len(replace) < AT_A_TIME:
            replace.append(replica)
            said = f"{replica.name} is replaced: {replica.fault.reason}: {replica.fault.message}".rstrip(": ")
            notes.append(Note("Warning", "Replaced", said))
            if count + 1 >= CRASH_LOOP_REPLACEMENTS:
                words = f"{replica.name} failed {count + 1} times in a row; the next one is given more time"
                notes.append(Note("Warning", "CrashLoop", words))
    gone = {replica.uid for replica in replace}
    after = tuple(msgspec.structs.replace(one, going=True) if one.uid in gone else one for one in replicas)
    return Healing(
        replicas=after,
        replace=tuple(replace),
        repair=tuple(repair),
        wake=tuple(wake),
        suspend=tuple(suspend),
        notes=tuple(notes),
        forgiven=tuple(forgiven),
        next_s=min(waits, default=None),
    )
