"""The cursor of a rollout: what it has reached, what it waits for, and when it fails. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from volant.core.amount import count_amount
from volant.core.clock import format_time, parse_time
from volant.core.deployment import Deployment, DeploymentSpec, Rollout
from volant.core.moment import seconds_left
from volant.reconcile.deployment.replica import Replica
from volant.reconcile.recorder import Note

FINISHED = ("Complete", "RolledBack")


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout stands now. ``roll_back``: why it has to go back to ``rollout.before``."""

    rollout: Rollout
    serving: int = 0
    notes: tuple[Note, ...] = ()
    roll_back: str = ""
    next_s: float | None = None
    """When to look again, if nothing happens before."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, as far as a rollout goes."""

    wanted: int
    current: int = 0
    available: int = 0
    """Of the current ones."""
    old: int = 0
    """Those that are going, too."""
    beyond: int = 0
    """Those with an index that only the rollout needed."""
    broken: tuple[str, ...] = ()
    """Current ones that crashed."""
    down: tuple[str, ...] = ()
    """Current ones that were ready and are not any more, and that nobody stopped."""
    serves_target: bool = False
    """Of blue-green: what serves is described as the target is, though by another revision."""


def stand(replicas: Sequence[Replica], wanted: int) -> Standing:
    live = [replica for replica in replicas if replica.current and not replica.going]
    return Standing(
        wanted=wanted,
        current=len(live),
        available=sum(replica.counts for replica in live),
        old=sum(not replica.current for replica in replicas),
        beyond=sum(replica.index >= wanted for replica in replicas),
        broken=tuple(replica.name for replica in live if replica.crashed or replica.fault is not None),
        down=tuple(r.name for r in live if r.was_ready and not r.ready and not r.disrupted and r.power == "running"),
    )


def advance(deployment: Deployment, standing: Standing, now: datetime, *, stalled_s: float, can_go_back: bool) -> Cursor:
    """The cursor after what ``standing`` shows. ``stalled_s``: how long there was no progress, by a clock that does not jump;
    ``can_go_back``: there is another description to go back to."""
    spec, status = deployment.spec, deployment.status
    rollout, serving = status.rollout, status.serving if spec.strategy.type == "blue-green" else 0
    notes: list[Note] = []
    if rollout.revision != spec.target:
        rollout = _begin(spec, rollout, now)
        if spec.strategy.type == "blue-green" and not serving:
            serving = rollout.before
        notes.append(Note("Normal", "RolloutStarted", f"to revision {spec.target}"))
    if spec.paused or rollout.phase in FINISHED:
        # At rest all that there are serve.
        serving = 0 if rollout.phase in FINISHED else serving
        return Cursor(rollout=rollout, serving=serving, notes=tuple(notes))
    if status.phase == "Paused":
        rollout = msgspec.structs.replace(rollout, progressed_at=format_time(now))
    old_before = status.replicas - status.updated
    if standing.available > rollout.reached or (status.rollout.revision == spec.target and standing.old < old_before):
        reached = max(rollout.reached, standing.available)
        rollout = msgspec.structs.replace(rollout, reached=reached, progressed_at=format_time(now))
        if rollout.phase == "Failed":
            rollout = msgspec.structs.replace(rollout, message="it goes on all the same")
    cursor = Cursor(rollout=rollout, serving=serving, notes=tuple(notes))
    cursor = _advance_strategy(deployment, cursor, standing, now)
    return _judge_end(deployment, cursor, standing, now, stalled_s=stalled_s, can_go_back=can_go_back)


def canary_cap(deployment: Deployment, rollout: Rollout, wanted: int) -> int | None:
    """How many of the target revision there may be in the canary step that the rollout is in; None: all."""
    strategy = deployment.spec.strategy
    if strategy.type != "canary" or not rollout.before or rollout.phase in (*FINISHED, "RollingBack"):
        return None
    if rollout.step >= len(strategy.steps):
        return None
    return min(wanted, count_amount(strategy.steps[rollout.step].replicas, wanted, up=True))


def _begin(spec: DeploymentSpec, rollout: Rollout, now: datetime) -> Rollout:
    at = format_time(now)
    return Rollout(
        phase="Progressing",
        revision=spec.target,
        before=rollout.before,
        promoted=spec.promoted,
        started_at=at,
        progressed_at=at,
    )


def _advance_strategy(deployment: Deployment, cursor: Cursor, standing: Standing, now: datetime) -> Cursor:
    need = canary_cap(deployment, cursor.rollout, standing.wanted)
    if need is not None:
        return _advance_canary(deployment, cursor, standing, need, now)
    if deployment.spec.strategy.type == "blue-green":
        return _advance_blue_green(deployment, cursor, standing, now)
    return cursor


def _advance_canary(deployment: Deployment, cursor: Cursor, standing: Standing, need: int, now: datetime) -> Cursor:
    spec, rollout = deployment.spec, cursor.rollout
    step = spec.strategy.steps[rollout.step]
    title = f"step {rollout.step + 1} of {len(spec.strategy.steps)}"
    lost = standing.broken or (standing.down if rollout.step_at is not None else ())
    if lost:
        return msgspec.structs.replace(cursor, roll_back=f"the canary {lost[0]} failed in {title}")
    step_at = rollout.step_at
    if step_at is None:
        if standing.available < need:
            return cursor
        waits = "until somebody resumes" if step.pause_s is None else f"{step.pause_s} s"
        message = f"{title}: {need} of revision {rollout.revision} are available; waits {waits}"
        at = format_time(now)
        rollout = msgspec.structs.replace(
            rollout, phase="Waiting", step_at=at, progressed_at=at, promoted=spec.promoted, message=message
        )
        notes = (*cursor.notes, Note("Normal", "Waiting", message))
        return msgspec.structs.replace(cursor, rollout=rollout, notes=notes, next_s=step.pause_s)
    if standing.available < need:
        # Somebody took it away: it is made again, and has its time again.
        rollout = msgspec.structs.replace(rollout, phase="Progressing", step_at=None, progressed_at=format_time(now), message="")
        return msgspec.structs.replace(cursor, rollout=rollout)
    left = None if step.pause_s is None else _left_s(step_at, step.pause_s, now)
    if spec.promoted <= rollout.promoted and (left is None or left > 0):
        return msgspec.structs.replace(cursor, next_s=left)
    rollout = msgspec.structs.replace(
        rollout, phase="Progressing", step=rollout.step + 1, step_at=None, progressed_at=format_time(now), message=""
    )
    notes = (*cursor.notes, Note("Normal", "Promoted", f"{title} of revision {rollout.revision} is over"))
    return msgspec.structs.replace(cursor, rollout=rollout, notes=notes, next_s=0.0)


def _advance_blue_green(deployment: Deployment, cursor: Cursor, standing: Standing, now: datetime) -> Cursor:
    spec, rollout = deployment.spec, cursor.rollout
    at = format_time(now)
    if rollout.switched_at is not None:
        return msgspec.structs.replace(cursor, next_s=_positive(_left_s(rollout.switched_at, spec.strategy.keep_old_s, now)))
    if standing.available < standing.wanted:
        if rollout.phase == "Waiting":
            rollout = msgspec.structs.replace(rollout, phase="Progressing", progressed_at=at, message="")
        return msgspec.structs.replace(cursor, rollout=rollout)
    asks = spec.strategy.promote == "manual" and rollout.before and rollout.phase != "RollingBack"
    if asks and spec.promoted <= rollout.promoted:
        if rollout.phase == "Waiting":
            return cursor
        message = f"revision {rollout.revision} is available beside the old one; waits until somebody resumes"
        rollout = msgspec.structs.replace(rollout, phase="Waiting", promoted=spec.promoted, progressed_at=at, message=message)
        return msgspec.structs.replace(cursor, rollout=rollout, notes=(*cursor.notes, Note("Normal", "Waiting", message)))
    kept_s = spec.strategy.keep_old_s
    message = f"revision {rollout.revision} serves; the old one is kept for {kept_s} s" if standing.old else ""
    notes = (*cursor.notes, Note("Normal", "Switched", message)) if standing.old else cursor.notes
    phase = rollout.phase if rollout.phase == "RollingBack" else "Switched"
    rollout = msgspec.structs.replace(rollout, phase=phase, switched_at=at, progressed_at=at, message=message)
    serving = cursor.serving if standing.serves_target else rollout.revision
    return msgspec.structs.replace(
        cursor, rollout=rollout, serving=serving, notes=notes, next_s=float(kept_s) if standing.old else None
    )


def is_kept_long_enough(deployment: Deployment, rollout: Rollout, now: datetime) -> bool:
    at = rollout.switched_at
    return at is not None and _left_s(at, deployment.spec.strategy.keep_old_s, now) <= 0


def _judge_end(
    deployment: Deployment, cursor: Cursor, standing: Standing, now: datetime, *, stalled_s: float, can_go_back: bool
) -> Cursor:
    spec, rollout = deployment.spec, cursor.rollout
    strategy = spec.strategy.type
    if cursor.roll_back:
        if spec.auto_rollback and can_go_back:
            return cursor
        return _fail(cursor, cursor.roll_back)
    is_in_step = canary_cap(deployment, rollout, standing.wanted) is not None
    is_there = standing.available >= standing.wanted and not standing.old and not is_in_step
    if is_there and (not standing.beyond if strategy != "blue-green" else rollout.switched_at is not None):
        phase = "RolledBack" if rollout.phase == "RollingBack" else "Complete"
        message = rollout.message if phase == "RolledBack" else ""
        rollout = msgspec.structs.replace(rollout, phase=phase, before=rollout.revision, message=message)
        note = Note("Normal", "RolloutComplete", f"all replicas are of revision {rollout.revision}")
        return msgspec.structs.replace(cursor, rollout=rollout, serving=0, notes=(*cursor.notes, note), next_s=None)
    if rollout.phase not in ("Progressing", "RollingBack"):
        return cursor
    if rollout.progressed_at != deployment.status.rollout.progressed_at:
        stalled_s = 0.0
    left = spec.progress_deadline_s - stalled_s
    if left > 0:
        return msgspec.structs.replace(cursor, next_s=left if cursor.next_s is None else min(left, cursor.next_s))
    why = f"revision {rollout.revision} made no progress for {spec.progress_deadline_s} s"
    if rollout.phase == "Progressing" and spec.auto_rollback and can_go_back:
        return msgspec.structs.replace(cursor, roll_back=why)
    return _fail(cursor, why)


def _fail(cursor: Cursor, why: str) -> Cursor:
    if cursor.rollout.phase == "Failed":
        return msgspec.structs.replace(cursor, roll_back="")
    rollout = msgspec.structs.replace(cursor.rollout, phase="Failed", message=why)
    notes = (*cursor.notes, Note("Warning", "RolloutFailed", why))
    return msgspec.structs.replace(cursor, rollout=rollout, notes=notes, roll_back="")


def _left_s(at: str, seconds: float, now: datetime) -> float:
    return seconds_left(parse_time(at), seconds, now)


def _positive(seconds: float) -> float | None:
    return seconds if seconds > 0 else None
