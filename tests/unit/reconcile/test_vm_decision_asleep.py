"""What to do next about a VM that sleeps, wakes, is parked, or begins from a snapshot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from volant.core.clock import format_time
from volant.reconcile.vm_decision import (
    AskStop,
    Configure,
    Install,
    Launch,
    Park,
    RecordEnd,
    Release,
    Renew,
    Rest,
    Resume,
    Schedule,
    Seen,
    Suspend,
    Wake,
    decide,
)

from .test_vm_decision import CRASH, NOW, make_vm, running


def alive(**more: Any) -> Seen:
    return Seen(run_id="r1", alive=True, **more)


def asleep(**spec: Any) -> Any:
    return make_vm(spec=spec, status={"slot": 0, "run_id": "r1", "started_token": 0})


def test_a_vm_is_suspended_once_its_guest_knows_who_it_is() -> None:
    vm = make_vm(spec={"power": "suspended"}, status=running())
    assert decide(vm, alive(), NOW) == Rest()
    assert decide(vm, alive(agent_waits=True), NOW) == Configure()
    assert decide(vm, alive(settled=True), NOW) == Suspend()
    assert decide(vm, alive(paused=True), NOW) == Suspend(), "an earlier volantd had paused it for that"


def test_a_sleeping_vm_sleeps_until_it_is_to_run_or_to_stop() -> None:
    seen = Seen(asleep=True)
    assert decide(asleep(power="suspended"), seen, NOW) == Rest()
    assert decide(asleep(power="running"), seen, NOW) == Wake()
    assert decide(asleep(power="stopped"), seen, NOW) == Wake(), "to be asked in an orderly way"
    assert decide(asleep(power="suspended", restart_token=1), seen, NOW) == Wake()
    assert decide(make_vm(deleting=True, status={"slot": 0, "run_id": "r1"}), seen, NOW) == Release()


def test_waking_that_failed_waits_before_it_is_tried_again() -> None:
    status = {"slot": 0, "run_id": "r1", "started_token": 0, "retry_at": format_time(NOW + timedelta(seconds=3))}
    assert decide(make_vm(status=status), Seen(asleep=True), NOW) == Rest(3.0)
    assert decide(make_vm(status=status, spec={"restart_token": 1}), Seen(asleep=True), NOW) == Wake()


def test_a_guest_that_stands_still_goes_on_when_it_is_to_run() -> None:
    assert decide(make_vm(status=running()), alive(paused=True), NOW) == Resume()
    stopping = make_vm(spec={"power": "stopped"}, status=running())
    assert decide(stopping, alive(paused=True), NOW) == Resume(), "it cannot be asked otherwise"
    assert decide(stopping, alive(), NOW) == AskStop()


def test_nobody_disturbs_what_somebody_has_in_hand() -> None:
    for spec in ({}, {"power": "suspended"}, {"power": "stopped"}):
        assert decide(make_vm(spec=spec, status=running()), alive(busy=True, paused=True), NOW) == Rest()
    assert decide(make_vm(status=running()), alive(busy=True, ending=CRASH), NOW) == RecordEnd(CRASH)


def test_a_copy_is_told_who_it_is() -> None:
    assert decide(make_vm(status=running()), alive(agent_differs=True), NOW) == Renew()
    assert decide(make_vm(status=running()), alive(agent_differs=True, paused=True), NOW) == Resume()


def test_a_clone_is_parked_when_it_is_healthy_and_stays_so() -> None:
    vm = make_vm(spec={"power": "parked"}, status=running())
    assert decide(vm, alive(), NOW) == Rest()
    assert decide(vm, alive(agent_waits=True), NOW) == Configure()
    assert decide(vm, alive(settled=True), NOW) == Rest()
    assert decide(vm, alive(settled=True, healthy=True), NOW) == Park()
    assert decide(vm, alive(paused=True), NOW) == Rest()
    assert decide(make_vm(spec={"power": "parked"}, status={"slot": 0}), Seen(), NOW) == Launch()


@pytest.mark.parametrize("seen", [alive(), alive(paused=True), Seen(asleep=True), Seen()])
def test_a_snapshot_that_was_asked_for_comes_first(seen: Seen) -> None:
    vm = make_vm(spec={"snapshot": "s", "snapshot_token": 1}, status={**running(), "snapshot_token": 0, "started_at": None})
    assert decide(vm, seen, NOW) == Install()
    done = make_vm(spec={"snapshot": "s", "snapshot_token": 1}, status={**running(), "snapshot_token": 1, "started_at": None})
    assert decide(done, seen, NOW) != Install()


def test_a_vm_from_a_snapshot_gets_its_slot_first_and_is_gone_when_it_is_deleted() -> None:
    assert decide(make_vm(spec={"snapshot": "s"}), Seen(), NOW) == Schedule()
    assert decide(make_vm(spec={"snapshot": "s"}, deleting=True, status={"slot": 0}), Seen(asleep=True), NOW) == Release()
