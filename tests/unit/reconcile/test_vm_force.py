"""What is to end at once ends at once, whatever it is doing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.reconcile.vm_decision import AskStop, Destroy, Discard, Release, Rest, Seen, Wake, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make(*, deleting: bool = False, force: bool = True, **status: Any) -> VM:
    meta = Meta(name="web", uid=Uid("a" * 32), deleting_at="2026-01-01T00:00:00Z" if deleting else None)
    spec = VMSpec(plugin="nginx", power="running" if deleting else "stopped", force_stop=force)
    return VM(meta=meta, spec=spec, status=VMStatus(run_id="run", started_token=0, slot=0, **status))


ALIVE = {"run_id": "run", "alive": True}


@pytest.mark.parametrize("deleting", [False, True])
@pytest.mark.parametrize(
    "seen",
    [{}, {"paused": True}, {"agent_waits": True}, {"settled": True, "healthy": True}, {"silent_s": 3.0}, {"agent_differs": True}],
)
def test_a_run_is_ended_without_being_asked(deleting: bool, seen: dict[str, Any]) -> None:
    assert isinstance(decide(make(deleting=deleting), Seen(**ALIVE, **seen), NOW), Destroy)


def test_without_force_it_is_asked() -> None:
    assert decide(make(force=False), Seen(**ALIVE), NOW) == AskStop()


def test_whoever_has_it_in_hand_lets_go_first() -> None:
    assert decide(make(), Seen(**ALIVE, busy=True), NOW) == Rest()


def test_what_sleeps_is_given_up_or_goes() -> None:
    assert decide(make(), Seen(asleep=True), NOW) == Discard()
    assert decide(make(force=False), Seen(asleep=True), NOW) == Wake()
    assert decide(make(deleting=True), Seen(asleep=True), NOW) == Release()


def test_a_run_that_was_asked_for_since_is_not_ended() -> None:
    vm = make()

    running = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="running"))
    assert decide(running, Seen(**ALIVE, settled=True), NOW) == Rest()
