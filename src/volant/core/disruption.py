"""Who may stop a replica on purpose: the budget of its deployment, judged. Pure, so that everybody judges alike."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from volant.core.amount import count_amount
from volant.core.condition import find_condition
from volant.core.deployment import Budget, Deployment
from volant.core.moment import parse_time, seconds_left
from volant.core.vm import READY, VM


def ready_since(vm: VM) -> datetime | None:
    """Since when a replica is ready; None while it is not, or is on its way out of being so."""
    status = vm.status
    if vm.deleting or vm.spec.power != "running" or not status.ready or status.started_token != vm.spec.restart_token:
        return None
    ready = find_condition(status.conditions, READY)
    if ready is None or ready.status != "True":
        return None
    return parse_time(ready.last_transition_at)


def is_available(vm: VM, min_ready_s: float, now: datetime) -> bool:
    since = ready_since(vm)
    return since is not None and seconds_left(since, min_ready_s, now) <= 0


def has_limit(budget: Budget) -> bool:
    return budget.max_unavailable is not None or budget.min_available is not None


def allowed_disruptions(budget: Budget, wanted: int, available: int) -> int | None:
    """How many more of ``available`` replicas may be stopped now; None: any number. Shares are rounded up, both of them."""
    if not has_limit(budget):
        return None
    least = 0
    if budget.max_unavailable is not None:
        least = wanted - count_amount(budget.max_unavailable, wanted, up=True)
    if budget.min_available is not None:
        least = max(least, count_amount(budget.min_available, wanted, up=True))
    return max(0, available - least)


def judge_disruption(budget: Budget, wanted: int, available_uids: Collection[str], disrupted: Collection[str], uid: str) -> str:
    """'' when the replica ``uid`` may be stopped, else why not. One that is not available anyway may always be; one that was
    stopped on purpose and is available again counts as any other."""
    left = [one for one in available_uids if one not in disrupted or one == uid]
    if uid not in left:
        return ""
    allowed = allowed_disruptions(budget, wanted, len(left))
    if allowed is None or allowed > 0:
        return ""
    return f"{len(left)} of {wanted} replicas are available, and {describe_budget(budget)}"


def describe_budget(budget: Budget) -> str:
    words = []
    if budget.min_available is not None:
        words.append(f"at least {budget.min_available} have to be")
    if budget.max_unavailable is not None:
        words.append(f"at most {budget.max_unavailable} may be unavailable")
    return " and ".join(words) or "there is no limit"


def with_disrupted(deployment: Deployment, uid: str, now: str) -> Deployment:
    """``deployment`` with a word of it that the replica ``uid`` is stopped on purpose."""
    disrupted = {**deployment.status.disrupted, uid: now}
    return msgspec.structs.replace(deployment, status=msgspec.structs.replace(deployment.status, disrupted=disrupted))
