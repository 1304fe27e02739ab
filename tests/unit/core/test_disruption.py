"""Who may stop a replica: the budget, judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from volant.core.clock import format_time
from volant.core.condition import Condition
from volant.core.deployment import Budget
from volant.core.disruption import allowed_disruptions, is_available, judge_disruption
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import READY, VM, VMSpec, VMStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_vm(*, ready_s: float = 10, power: str = "running", asked: int = 0, started: int = 0, deleting: bool = False) -> VM:
    at = format_time(NOW - timedelta(seconds=ready_s))
    status = VMStatus(
        ready=True, started_token=started, conditions=(Condition(type=READY, status="True", last_transition_at=at),)
    )
    meta = Meta(name="web-0", uid=Uid("a" * 32), deleting_at=at if deleting else None)
    return VM(meta=meta, spec=VMSpec(plugin="nginx", power=power, restart_token=asked), status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "wanted", "available", "allowed"),
    [
        (Budget(), 3, 1, None),
        (Budget(max_unavailable=1), 3, 3, 1),
        (Budget(max_unavailable=1), 3, 2, 0),
        (Budget(max_unavailable="25%"), 3, 3, 1),
        (Budget(max_unavailable=0), 3, 4, 1),
        (Budget(min_available=2), 3, 3, 1),
        (Budget(min_available="50%"), 3, 3, 1),
        (Budget(min_available="100%"), 3, 3, 0),
        (Budget(min_available=3), 1, 1, 0),
    ],
)
def test_so_many_may_be_stopped(budget: Budget, wanted: int, available: int, allowed: int | None) -> None:
    assert allowed_disruptions(budget, wanted, available) == allowed


def test_one_that_is_not_available_may_always_be_stopped() -> None:
    budget = Budget(max_unavailable=1)
    assert judge_disruption(budget, 3, ["a", "b"], {}, "c") == ""
    assert judge_disruption(budget, 3, ["a", "b", "c"], {}, "c") == ""
    assert judge_disruption(budget, 3, ["a", "b"], {}, "a") == ("2 of 3 replicas are available, and at most 1 may be unavailable")


def test_one_that_somebody_stops_already_is_not_counted_on() -> None:
    budget = Budget(min_available=2)
    assert judge_disruption(budget, 3, ["a", "b", "c"], {"a": "then"}, "b").startswith("2 of 3 replicas are available")
    assert judge_disruption(budget, 3, ["a", "b", "c"], {"a": "then"}, "a") == ""


def test_one_that_was_stopped_on_purpose_and_is_available_again_counts_as_any_other() -> None:
    budget = Budget(max_unavailable=1)
    assert judge_disruption(budget, 3, ["a", "b"], {"a": "then"}, "a").startswith("2 of 3 replicas are available")


def test_available_is_ready_for_long_enough_and_nothing_else_asked() -> None:
    assert is_available(make_vm(), 10, NOW)
    assert not is_available(make_vm(), 11, NOW)
    assert is_available(make_vm(ready_s=-3600), 0, NOW), "a clock that was put back takes nothing away"
    assert not is_available(make_vm(power="stopped"), 0, NOW)
    assert not is_available(make_vm(asked=1), 0, NOW)
    assert not is_available(make_vm(deleting=True), 0, NOW)
