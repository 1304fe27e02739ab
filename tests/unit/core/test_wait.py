from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.condition import Condition
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.core.wait import Goal, describe_progress, goal_reached, is_withdrawn


def make_vm(generation: int = 1, **status: Any) -> VM:
    meta = Meta(name="web", uid=Uid("0" * 32), generation=generation)
    return VM(meta=meta, spec=VMSpec(plugin="nginx"), status=VMStatus(**{"observed_generation": 1, **status}))


@pytest.mark.parametrize(
    ("goal", "status", "reached"),
    [
        ("ready", {"phase": "Running", "ready": True}, True),
        ("ready", {"phase": "Running"}, False),
        ("ready", {"phase": "Failed"}, True),
        ("ready", {"phase": "Stopped"}, True),
        ("stopped", {"phase": "Stopped"}, True),
        ("stopped", {"phase": "Stopping"}, False),
        ("stopped", {"phase": "Running", "ready": True}, False),
        ("deleted", {"phase": "Deleting"}, False),
    ],
)
def test_when_waiting_is_over(goal: Goal, status: dict[str, Any], reached: bool) -> None:
    assert goal_reached(make_vm(**status), goal) is reached


@pytest.mark.parametrize("goal", ["ready", "stopped", "deleted"])
def test_a_status_that_has_not_seen_the_wish_says_nothing_of_it(goal: Goal) -> None:
    for phase in ("Running", "Stopped", "Failed"):
        assert not goal_reached(make_vm(generation=2, phase=phase, ready=phase == "Running"), goal)


def test_progress_names_what_is_waited_for() -> None:
    assert describe_progress(make_vm(phase="Pending")) == "Pending, waiting for Scheduled"
    conditions = (
        Condition(type="Scheduled", status="True"),
        Condition(type="NetworkReady", status="False", message="the bridge is missing"),
    )
    assert describe_progress(make_vm(phase="Preparing", conditions=conditions)).endswith("NetworkReady (the bridge is missing)")
    assert describe_progress(make_vm(phase="Failed", message="it broke")) == "Failed: it broke"
    assert describe_progress(make_vm(generation=2, phase="Stopped", message="it was asked to stop")) == "accepted"


def test_a_stop_is_withdrawn_when_somebody_asks_for_it_to_run_again() -> None:
    running = make_vm()
    stopped = msgspec.structs.replace(running, spec=VMSpec(plugin="nginx", power="stopped"))
    assert is_withdrawn(stopped, running)
    assert not is_withdrawn(stopped, stopped)
    assert not is_withdrawn(running, running), "it waits for an end that comes by itself"
