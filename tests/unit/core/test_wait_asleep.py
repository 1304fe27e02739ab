"""Waiting for VMs that sleep, wake, begin anew or come out of a pool."""

from __future__ import annotations

from typing import Any

import pytest

from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.core.wait import Goal, describe_progress, goal_reached


def make_vm(power: Any, generation: int = 1, **status: Any) -> VM:
    meta = Meta(name="web", uid=Uid("0" * 32), generation=generation)
    return VM(meta=meta, spec=VMSpec(plugin="nginx", power=power), status=VMStatus(**{"observed_generation": 1, **status}))


@pytest.mark.parametrize(
    ("goal", "power", "status", "reached"),
    [
        ("suspended", "suspended", {"phase": "Suspended"}, True),
        ("suspended", "suspended", {"phase": "Suspending"}, False),
        ("suspended", "suspended", {"phase": "Running", "ready": True}, False),
        ("suspended", "suspended", {"phase": "Stopped", "reason": "NotSaved"}, True),
        ("suspended", "suspended", {"phase": "Failed"}, True),
        # Somebody connected to one of its ports, or resumed it, before it was looked at.
        ("suspended", "running", {"phase": "Running", "ready": True}, True),
        ("ready", "suspended", {"phase": "Suspended"}, True),
        ("ready", "suspended", {"phase": "Suspending"}, False),
        ("ready", "running", {"phase": "Suspended"}, False),
        ("ready", "running", {"phase": "Starting", "reason": "Waking"}, False),
        ("ready", "running", {"phase": "Preparing", "reason": "WaitingForTemplate"}, False),
        ("ready", "running", {"phase": "Preparing", "ready": True}, False),
        ("ready", "running", {"phase": "Parked", "reason": "Parked"}, False),
        ("stopped", "stopped", {"phase": "Suspended"}, False),
    ],
)
def test_when_waiting_is_over_for_one_that_may_sleep(goal: Goal, power: Any, status: dict[str, Any], reached: bool) -> None:
    assert goal_reached(make_vm(power, **status), goal) is reached


def test_a_status_from_before_the_wish_ends_no_wait_for_sleep() -> None:
    assert not goal_reached(make_vm("suspended", generation=2, phase="Suspended"), "suspended")
    assert not goal_reached(make_vm("running", generation=2, phase="Suspended"), "ready")


def test_progress_names_no_condition_of_one_that_rests() -> None:
    assert describe_progress(make_vm("suspended", phase="Suspending")) == "Suspending"
    assert describe_progress(make_vm("suspended", phase="Suspended")) == "Suspended"
    asleep = make_vm("suspended", phase="Suspended", message="it goes on when it is resumed")
    assert describe_progress(asleep) == "Suspended: it goes on when it is resumed"


def test_progress_of_one_from_a_pool_says_so() -> None:
    taken = make_vm("running", phase="Starting", reason="Parked", message="it waits to be taken")
    assert describe_progress(taken) == "taken from the pool"


def test_a_step_that_fails_is_told_while_it_is_waited_for() -> None:
    failing = make_vm("suspended", generation=2, phase="Running", reason="StepFailed", message="the disk is full")
    assert describe_progress(failing) == "accepted, but not done yet: the disk is full"
