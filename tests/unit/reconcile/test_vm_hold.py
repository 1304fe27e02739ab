"""The end of a run that somebody asked for waits for those who are connected to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.reconcile.vm_decision import AskStop, Destroy, Rest, Resume, Seen, Suspend, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALIVE: dict[str, Any] = {"run_id": "run", "alive": True, "settled": True}


def make(**spec: Any) -> VM:
    vm_spec = VMSpec(**{"plugin": "nginx", "stop_grace_s": 10, **spec})
    status = VMStatus(run_id="run", started_token=0, slot=0, phase="Running", ready=True)
    return VM(meta=Meta(name="web", uid=Uid("a" * 32)), spec=vm_spec, status=status)


@pytest.mark.parametrize("spec", [{"power": "stopped"}, {"power": "suspended"}, {"restart_token": 1}])
def test_it_waits_as_long_as_they_may_take(spec: dict[str, Any]) -> None:
    assert decide(make(**spec), Seen(**ALIVE, hold_s=3.5), NOW) == Rest(3.5)


def test_so_does_one_that_is_deleted() -> None:
    vm = make()
    vm = msgspec.structs.replace(vm, meta=msgspec.structs.replace(vm.meta, deleting_at="2026-01-01T00:00:00Z"))
    assert decide(vm, Seen(**ALIVE, hold_s=3.5), NOW) == Rest(3.5)


def test_one_without_an_agent_is_not_ended_before() -> None:
    assert decide(make(power="stopped"), Seen(**ALIVE, has_agent=False, hold_s=3.5), NOW) == Rest(3.5)
    assert isinstance(decide(make(power="stopped"), Seen(**ALIVE, has_agent=False), NOW), Destroy)


def test_without_them_it_goes_on_at_once() -> None:
    assert decide(make(power="stopped"), Seen(**ALIVE), NOW) == AskStop()
    assert decide(make(power="suspended"), Seen(**ALIVE), NOW) == Suspend()


def test_who_was_asked_to_stop_already_is_held_up_no_more() -> None:
    seen = Seen(**ALIVE, hold_s=3.5, stop_asked_at=NOW, stop_delivered=True)
    assert decide(make(power="stopped"), seen, NOW) == Rest(15.0)
    assert isinstance(decide(make(power="stopped"), seen, NOW + timedelta(seconds=15)), Destroy)


def test_who_is_to_end_at_once_does() -> None:
    assert isinstance(decide(make(power="stopped", force_stop=True), Seen(**ALIVE, hold_s=3.5), NOW), Destroy)


def test_one_that_stands_still_serves_nobody() -> None:
    assert decide(make(power="stopped"), Seen(**ALIVE, paused=True, hold_s=3.5), NOW) == Resume()
