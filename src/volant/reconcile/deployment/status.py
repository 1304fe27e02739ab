"""What a deployment says of itself: a pure function of what was seen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.condition import Condition, Conditions, Truth, set_condition
from volant.core.deployment import AVAILABLE, PROGRESSING, REPLICA_FAILURE, Deployment, DeploymentStatus, Rollout
from volant.reconcile.deployment.replica import Replica
from volant.reconcile.deployment.rollout import FINISHED

CRASH_LOOP_REPLACEMENTS = 3
_NAMED = 3


def project_status(
    deployment: Deployment,
    replicas: Sequence[Replica],
    rollout: Rollout,
    *,
    serving: int,
    wanted: int,
    least: int,
    sleeping: bool,
    trouble: str,
    now: str,
) -> DeploymentStatus:
    """``least`` have to be available. ``trouble``: why a replica could not be made; ``''`` when none had to be, or it could."""
    before = deployment.status
    live = [replica for replica in replicas if not replica.going]
    available = sum(replica.counts for replica in live)
    failure = describe_failures(deployment, live, trouble)
    is_asleep = sleeping and all(replica.power == "suspended" for replica in live)
    phase = _find_phase(deployment, live, rollout, available=available, wanted=wanted, is_asleep=is_asleep, failure=failure)
    conditions = before.conditions
    if is_asleep:
        conditions = _set(conditions, now, AVAILABLE, "True", "Asleep", "it wakes when somebody needs it")
    else:
        enough = available >= least
        said = f"{available} of {wanted} replicas are available"
        conditions = _set(conditions, now, AVAILABLE, _truth(enough), "EnoughAvailable" if enough else "TooFew", said)
    conditions = _set(conditions, now, PROGRESSING, *_judge_progress(deployment, rollout))
    conditions = _set(conditions, now, REPLICA_FAILURE, _truth(bool(failure)), "Failing" if failure else "None", failure)
    kept = {replica.uid for replica in replicas if not replica.available}
    return msgspec.structs.replace(
        before,
        phase=phase,
        message=failure or rollout.message,
        wanted=0 if sleeping else wanted,
        replicas=len(replicas),
        updated=sum(replica.current for replica in replicas),
        ready=sum(replica.ready for replica in live),
        available=available,
        serving=serving,
        rollout=rollout,
        disrupted={uid: at for uid, at in before.disrupted.items() if uid in kept},
        conditions=conditions,
        observed_generation=deployment.meta.generation,
    )


def describe_failures(deployment: Deployment, live: Sequence[Replica], trouble: str) -> str:
    """Which replicas cannot be made, placed or kept running, and why; the first few by name."""
    words = [trouble] if trouble else []
    bad = [replica for replica in live if not replica.available and (replica.fault is not None or replica.blocked)]
    for replica in bad[:_NAMED]:
        if replica.fault is None:
            words.append(f"{replica.name} is not placed: {replica.blocked}")
            continue
        times = deployment.status.replaced.get(str(replica.index), 0)
        again = f", and {times} before it were replaced" if times else ""
        words.append(f"{replica.name}: {replica.fault.reason}: {replica.fault.message}{again}")
    if len(bad) > _NAMED:
        words.append(f"and {len(bad) - _NAMED} more")
    return "; ".join(words)


def _find_phase(
    deployment: Deployment,
    live: Sequence[Replica],
    rollout: Rollout,
    *,
    available: int,
    wanted: int,
    is_asleep: bool,
    failure: str,
) -> str:
    if deployment.spec.paused:
        return "Paused"
    if rollout.phase == "Failed":
        return "Failed"
    if rollout.phase not in FINISHED:
        return "Pending" if not live and not rollout.before else "Progressing"
    if is_asleep:
        return "Asleep"
    if available >= wanted:
        return "Available"
    is_hurt = bool(failure) or any(replica.crashed or replica.disrupted for replica in live if not replica.available)
    return "Degraded" if is_hurt else "Progressing"


def _judge_progress(deployment: Deployment, rollout: Rollout) -> tuple[Truth, str, str]:
    if rollout.phase == "Failed":
        return "False", "RolloutFailed", rollout.message
    if rollout.phase in FINISHED:
        return "True", "RolloutComplete", rollout.message or f"all replicas are of revision {rollout.revision}"
    if deployment.spec.paused:
        return "Unknown", "Paused", "nothing is rolled out until it is resumed"
    return "True", rollout.phase, rollout.message or f"to revision {rollout.revision}"


def _truth(value: bool) -> Truth:
    return "True" if value else "False"


def _set(conditions: Conditions, now: str, type_: str, status: Truth, reason: str, message: str) -> Conditions:
    return set_condition(conditions, Condition(type=type_, status=status, reason=reason, message=message), now)
