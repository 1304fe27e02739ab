from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.clock import format_time
from volant.core.condition import Condition
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, EndRecord, VMSpec, VMStatus
from volant.hypervisor.driver import Ending
from volant.reconcile.vm_decision import (
    BOOT_DEADLINE_S,
    STOP_MARGIN_S,
    AskStop,
    Configure,
    Destroy,
    Launch,
    RecordEnd,
    Release,
    Rest,
    Resume,
    Schedule,
    Seen,
    decide,
    is_starting,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CRASH = Ending(kind="crashed", message="killed by signal 9", signal=9)


def make_vm(*, deleting: bool = False, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> VM:
    meta = Meta(name="web", uid=Uid("0" * 32), deleting_at=format_time(NOW) if deleting else None)
    return VM(meta=meta, spec=VMSpec(plugin="nginx", **(spec or {})), status=VMStatus(**(status or {})))


def running(**more: Any) -> dict[str, Any]:
    return {"slot": 0, "run_id": "r1", "started_at": format_time(NOW), "started_token": 0, **more}


def ended(*, asked: bool = False, clean: bool = False, **more: Any) -> dict[str, Any]:
    end = EndRecord(run_id="r1", kind="crashed", message="", at=format_time(NOW), asked=asked, clean=clean)
    return {"slot": 0, "run_id": "r1", "started_token": 0, "last_end": end, **more}


def test_a_new_vm_is_scheduled_then_launched() -> None:
    assert decide(make_vm(), Seen(), NOW) == Schedule()
    assert decide(make_vm(status={"slot": 0}), Seen(), NOW) == Launch()


def test_a_vm_created_stopped_rests() -> None:
    assert decide(make_vm(spec={"power": "stopped"}), Seen(), NOW) == Rest()


def test_a_launch_that_was_cut_off_before_it_was_recorded_is_made_again() -> None:
    vm = make_vm(status={"slot": 0, "run_id": "r1", "started_token": 0})
    assert decide(vm, Seen(), NOW) == Launch()


def test_a_run_that_vanished_is_recorded_as_lost_before_the_next() -> None:
    action = decide(make_vm(status=running()), Seen(), NOW)
    assert isinstance(action, RecordEnd)
    assert action.ending.kind == "lost"


def test_an_end_is_recorded_once_and_then_the_policy_decides() -> None:
    vm = make_vm(status=running())
    assert decide(vm, Seen(run_id="r1", ending=CRASH), NOW) == RecordEnd(CRASH)
    assert decide(make_vm(status=ended()), Seen(run_id="r1", ending=CRASH), NOW) == Launch()


@pytest.mark.parametrize(
    ("policy", "clean", "again"),
    [
        ("always", True, True),
        ("always", False, True),
        ("on-failure", True, False),
        ("on-failure", False, True),
        ("never", True, False),
        ("never", False, False),
    ],
)
def test_the_restart_policy(policy: str, clean: bool, again: bool) -> None:
    vm = make_vm(spec={"restart_policy": policy}, status=ended(clean=clean))
    assert decide(vm, Seen(), NOW) == (Launch() if again else Rest())


def test_a_start_asked_for_by_name_overrides_the_policy() -> None:
    vm = make_vm(spec={"restart_policy": "never", "restart_token": 1}, status=ended())
    assert decide(vm, Seen(), NOW) == Launch()


def test_a_backoff_is_waited_for() -> None:
    vm = make_vm(status=ended(retry_at=format_time(NOW + timedelta(seconds=4))))
    assert decide(vm, Seen(), NOW) == Rest(4.0)
    assert decide(vm, Seen(), NOW + timedelta(seconds=4)) == Launch()


def test_a_backoff_is_not_waited_for_longer_than_any_is_when_the_clock_was_set_back() -> None:
    vm = make_vm(status=ended(retry_at=format_time(NOW + timedelta(seconds=60))))
    assert decide(vm, Seen(), NOW) == Rest(60.0)
    assert decide(vm, Seen(), NOW - timedelta(hours=1)) == Launch()


def test_a_start_asked_for_by_name_does_not_wait() -> None:
    vm = make_vm(spec={"restart_token": 1}, status=ended(retry_at=format_time(NOW + timedelta(seconds=4))))
    assert decide(vm, Seen(), NOW) == Launch()


def test_a_waiting_agent_is_configured() -> None:
    assert decide(make_vm(status=running()), Seen(run_id="r1", alive=True, agent_waits=True), NOW) == Configure()


def test_a_guest_that_never_answers_is_given_up() -> None:
    silent = Seen(run_id="r1", alive=True, silent_s=BOOT_DEADLINE_S - 20)
    assert decide(make_vm(status=running()), silent, NOW) == Rest(20.0)
    late = msgspec.structs.replace(silent, silent_s=BOOT_DEADLINE_S)
    assert isinstance(decide(make_vm(status=running()), late, NOW), Destroy)
    booted = (Condition(type="Booted", status="True"),)
    adopted = make_vm(status=running(conditions=booted))
    assert decide(adopted, late, NOW) == Rest(), "one that had booted may be serving still"


def test_stopping_asks_once_then_waits_then_ends_it() -> None:
    vm = make_vm(spec={"power": "stopped", "stop_grace_s": 2}, status=running())
    seen = Seen(run_id="r1", alive=True)
    assert decide(vm, seen, NOW) == AskStop()
    tried = msgspec.structs.replace(seen, stop_asked_at=NOW)
    assert decide(vm, tried, NOW) == AskStop(), "an agent that did not take it is asked again"
    assert isinstance(decide(vm, tried, NOW + timedelta(seconds=2 + STOP_MARGIN_S)), Destroy)
    asked = msgspec.structs.replace(tried, stop_delivered=True)
    assert decide(vm, asked, NOW) == Rest(2 + STOP_MARGIN_S)
    assert isinstance(decide(vm, asked, NOW + timedelta(seconds=2 + STOP_MARGIN_S)), Destroy)


def test_a_restart_stops_the_run_that_was_begun_for_an_older_wish() -> None:
    vm = make_vm(spec={"restart_token": 1}, status=running())
    assert decide(vm, Seen(run_id="r1", alive=True), NOW) == AskStop()


def test_a_process_of_another_run_is_destroyed() -> None:
    assert isinstance(decide(make_vm(status=running()), Seen(run_id="r0", alive=True), NOW), Destroy)


spec_strategy = st.fixed_dictionaries(
    {
        "power": st.sampled_from(["running", "stopped"]),
        "restart_policy": st.sampled_from(["always", "on-failure", "never"]),
        "restart_token": st.integers(0, 2),
    }
)
status_strategy = st.one_of(
    st.just({}),
    st.just({"slot": 0}),
    st.builds(lambda token: running(started_token=token), st.integers(0, 2)),
    st.builds(lambda asked, clean: ended(asked=asked, clean=clean), st.booleans(), st.booleans()),
)
seen_strategy = st.one_of(
    st.just(Seen()),
    st.builds(
        lambda run, alive, ending, asked, waits: Seen(
            run_id=run,
            alive=alive,
            ending=ending if not alive or ending else None,
            stop_asked_at=asked,
            agent_waits=waits,
        ),
        st.sampled_from(["r0", "r1"]),
        st.booleans(),
        st.sampled_from([None, CRASH]),
        st.sampled_from([None, NOW - timedelta(seconds=1), NOW - timedelta(hours=1)]),
        st.booleans(),
    ),
)


@given(spec=spec_strategy, status=status_strategy, seen=seen_strategy, deleting=st.booleans())
def test_what_must_hold_whatever_was_asked_and_seen(
    spec: dict[str, Any], status: dict[str, Any], seen: Seen, deleting: bool
) -> None:
    action = decide(make_vm(deleting=deleting, spec=spec, status=status), seen, NOW)
    if seen.alive:
        assert not isinstance(action, (Launch, Schedule, Release)), "nothing is begun or given back while something runs"
    if deleting or spec["power"] == "stopped":
        assert not isinstance(action, (Launch, Schedule, Configure)), "nothing is begun that is not wanted"
    if isinstance(action, Release):
        assert deleting
    if deleting and not seen.alive:
        assert isinstance(action, (Release, RecordEnd)), "deleting ends"


@pytest.mark.parametrize(
    ("vm", "seen", "expected"),
    [
        (make_vm(status=running()), Seen(alive=True, run_id="r1"), True),
        (make_vm(status=running(ready=True)), Seen(alive=True, run_id="r1"), False),
        (make_vm(status=running()), Seen(alive=True, run_id="r1", paused=True), False),
        (make_vm(status=running()), Seen(alive=True, run_id="r1", ending=CRASH), False),
        (make_vm(spec={"power": "stopped"}, status=running()), Seen(alive=True, run_id="r1"), False),
        (make_vm(deleting=True, status=running()), Seen(alive=True, run_id="r1"), False),
        (make_vm(spec={"power": "stopped"}, status={"slot": 0}), Seen(), False),
    ],
    ids=["on its way", "ready", "paused", "ended", "to be stopped", "to be deleted", "stopped before its turn"],
)
def test_only_what_is_on_its_way_keeps_others_waiting(vm: VM, seen: Seen, expected: bool) -> None:
    assert is_starting(vm, seen) is expected


def test_a_guest_without_an_agent_is_left_alone_until_it_is_to_stop() -> None:
    seen = Seen(run_id="r1", alive=True, has_agent=False, silent_s=BOOT_DEADLINE_S * 10)
    assert decide(make_vm(status=running()), seen, NOW) == Rest()
    assert decide(make_vm(status=running()), msgspec.structs.replace(seen, paused=True), NOW) == Resume()
    over = msgspec.structs.replace(seen, ending=CRASH)
    assert decide(make_vm(status=running()), over, NOW) == RecordEnd(CRASH)
    for vm in (
        make_vm(spec={"power": "stopped"}, status=running()),
        make_vm(spec={"restart_token": 1}, status=running()),
        make_vm(deleting=True, status=running()),
    ):
        assert decide(vm, seen, NOW) == Destroy("its guest has no agent that could be asked to stop")
