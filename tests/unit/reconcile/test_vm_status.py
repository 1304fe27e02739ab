from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from volant.core.clock import format_time
from volant.core.condition import find_condition, is_true
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import AGENT_CONNECTED, BOOTED, READY, VM, EndRecord, StartRecord, VMSpec, VMStatus, WorkloadStatus
from volant.reconcile.vm_decision import ended_for_good
from volant.reconcile.vm_status import AGENT_GRACE_S, CRASH_LOOP_RESTARTS, SETTLED_AFTER_S, Facts, project_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNING = WorkloadStatus(state="running", pid=7)


def make_vm(**status: Any) -> VM:
    known = {"slot": 0, "node": "here", "run_id": "r1", "started_token": 0, "start": StartRecord(asked_at=format_time(NOW))}
    return VM(meta=Meta(name="web", uid=Uid("0" * 32)), spec=VMSpec(plugin="nginx"), status=VMStatus(**{**known, **status}))


def facts(**more: Any) -> Facts:
    return Facts(pid=42, started_at=NOW, hypervisor="qemu", accelerator="tcg", **more)


def good(**more: Any) -> Facts:
    plain: dict[str, Any] = {"agent_connected": True, "said_hello": True, "configured": True, "workload": RUNNING}
    return facts(**{**plain, "has_health_check": True, "health": "healthy", **more})


def ready_vm() -> VM:
    vm = make_vm()
    return msgspec.structs.replace(vm, status=project_status(vm, good(), NOW))


def test_a_start_goes_by_way_of_its_conditions() -> None:
    vm = make_vm()
    booting = project_status(vm, facts(), NOW)
    assert (booting.phase, booting.ready) == ("Starting", False)
    assert not is_true(booting.conditions, BOOTED)
    hello = project_status(vm, facts(agent_connected=True, said_hello=True), NOW)
    assert is_true(hello.conditions, BOOTED) and is_true(hello.conditions, AGENT_CONNECTED)
    assert (hello.phase, hello.reason) == ("Starting", "Configuring")
    probing = project_status(vm, good(health="unknown"), NOW)
    assert (probing.phase, probing.ready, probing.reason) == ("Running", False, "WaitingForHealth")
    later = NOW + timedelta(seconds=2.5)
    ready = project_status(vm, good(), later)
    assert (ready.phase, ready.ready, ready.pid, ready.isolation) == ("Running", True, 42, "emulated")
    assert ready.start is not None and ready.start.duration_ms == 2500


def test_without_a_health_check_running_for_a_while_is_ready() -> None:
    early = project_status(make_vm(), good(has_health_check=False, health=None, running_s=0.1), NOW)
    assert (early.ready, early.reason) == (False, "Settling")
    later = project_status(make_vm(), good(has_health_check=False, health=None, running_s=SETTLED_AFTER_S), NOW)
    assert later.ready
    vm = msgspec.structs.replace(make_vm(), status=later)
    adopted = good(has_health_check=False, health=None, running_s=0.0)
    assert project_status(vm, adopted, NOW).ready, "the same process, seen by a new volantd"
    restarted = good(has_health_check=False, health=None, workload=WorkloadStatus(state="running", pid=8))
    assert not project_status(vm, restarted, NOW).ready


def test_the_duration_of_a_start_is_written_once() -> None:
    vm = ready_vm()
    again = project_status(vm, good(), NOW + timedelta(hours=1))
    assert again.start == vm.status.start
    assert again == vm.status, "nothing happened, so nothing is written"


@pytest.mark.parametrize(
    "quiet",
    [
        facts(said_hello=False),
        facts(said_hello=True),
        facts(agent_connected=True, said_hello=True, configured=True),
        facts(agent_connected=True, said_hello=True, configured=True, workload=RUNNING, has_health_check=True),
    ],
)
def test_volantds_own_restart_shows_no_flap(quiet: Facts) -> None:
    vm = ready_vm()
    within = project_status(vm, msgspec.structs.replace(quiet, agent_down_s=AGENT_GRACE_S - 0.1), NOW)
    assert (within.ready, within.phase) == (True, "Running")
    assert within.conditions == vm.status.conditions


def test_a_long_silence_is_said() -> None:
    status = project_status(ready_vm(), facts(said_hello=True, agent_down_s=AGENT_GRACE_S), NOW)
    assert (status.ready, status.reason) == (False, "AgentSilent")
    assert not is_true(status.conditions, AGENT_CONNECTED)
    assert is_true(status.conditions, BOOTED), "it has booted, whatever came after"


@pytest.mark.parametrize(
    ("workload", "phase", "reason"),
    [
        (WorkloadStatus(state="failed", message="there is no nginx"), "Failed", "WorkloadFailed"),
        (WorkloadStatus(state="backoff", restarts=1), "Running", "WorkloadEnded"),
        (WorkloadStatus(state="backoff", restarts=CRASH_LOOP_RESTARTS), "Failed", "CrashLoop"),
        (WorkloadStatus(state="exited"), "Running", "WorkloadEnded"),
        (WorkloadStatus(state="starting"), "Starting", "WorkloadStarting"),
    ],
)
def test_what_a_workload_does_is_said(workload: WorkloadStatus, phase: str, reason: str) -> None:
    status = project_status(make_vm(), good(workload=workload, health="unknown"), NOW)
    assert (status.phase, status.ready, status.reason) == (phase, False, reason)
    assert status.message


def test_an_unhealthy_workload_runs_but_is_not_ready() -> None:
    status = project_status(ready_vm(), good(health="unhealthy", health_message="GET / gave 502"), NOW)
    assert (status.phase, status.ready) == ("Running", False)
    assert status.message.endswith("GET / gave 502")
    condition = find_condition(status.conditions, READY)
    assert condition is not None and condition.reason == "Unhealthy"


def test_stopping_and_deleting_show_while_the_process_lives() -> None:
    vm = ready_vm()
    stopping = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="stopped"))
    for seen in (good(stop_asked=True), good()):
        status = project_status(stopping, seen, NOW)
        assert (status.phase, status.ready) == ("Stopping", False)
    restarting = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, restart_token=1))
    assert not project_status(restarting, good(), NOW).ready, "who waits for the new run must not be shown the old one"
    deleting = msgspec.structs.replace(vm, meta=msgspec.structs.replace(vm.meta, deleting_at=format_time(NOW)))
    assert project_status(deleting, good(), NOW).phase == "Deleting"


def test_nothing_running_clears_what_only_a_run_has() -> None:
    vm = ready_vm()
    stopped = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="stopped"))
    status = project_status(stopped, None, NOW)
    assert (status.phase, status.ready, status.pid, status.started_at) == ("Stopped", False, None, None)
    assert not any(is_true(status.conditions, t) for t in (BOOTED, AGENT_CONNECTED, READY))
    assert status.addresses == vm.status.addresses


def test_a_workload_that_never_ran_is_told_of_though_nobody_asked_how_it_is() -> None:
    hello = project_status(make_vm(), facts(agent_connected=True, said_hello=True), NOW)
    vm = msgspec.structs.replace(make_vm(), status=hello)
    gone = WorkloadStatus(state="backoff", restarts=CRASH_LOOP_RESTARTS, message="no such program: /bin/x")
    status = project_status(vm, good(workload=gone, health=None), NOW)
    assert (status.phase, status.reason, status.message) == (
        "Failed",
        "CrashLoop",
        "no such program: /bin/x; it is started again",
    )


def outside(**more: Any) -> Facts:
    return facts(has_agent=False, workload=WorkloadStatus(), **more)


def test_of_a_guest_without_an_agent_only_what_the_host_sees_is_said() -> None:
    begun = project_status(make_vm(), outside(), NOW)
    assert (begun.phase, begun.ready, begun.reason) == ("Running", False, "Settling")
    said = {condition.type: (condition.status, condition.reason) for condition in begun.conditions}
    assert said[BOOTED] == ("Unknown", "NoAgent") and said[AGENT_CONNECTED] == ("False", "NoAgent")
    settled = project_status(make_vm(), outside(running_s=SETTLED_AFTER_S), NOW + timedelta(seconds=2))
    assert (settled.phase, settled.ready, settled.pid) == ("Running", True, 42)
    assert settled.start is not None and settled.start.duration_ms == 2000
    vm = msgspec.structs.replace(make_vm(), status=settled)
    assert project_status(vm, outside(), NOW).ready, "a volantd that has just begun finds it as it was"
    assert project_status(vm, outside(running_s=90.0), NOW + timedelta(hours=1)) == settled, "so nothing is written"
    stopped = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="stopped"))
    assert project_status(stopped, outside(), NOW).phase == "Stopping"


@pytest.mark.parametrize(
    ("health", "ready", "reason"),
    [("unknown", False, "WaitingForHealth"), ("healthy", True, "Ready"), ("unhealthy", False, "Unhealthy")],
)
def test_the_host_asks_after_the_health_of_one_without_an_agent(health: str, ready: bool, reason: str) -> None:
    status = project_status(make_vm(), outside(has_health_check=True, health=health, health_message="refused"), NOW)
    assert (status.phase, status.ready, status.reason) == ("Running", ready, reason)
    assert ready or status.message.endswith(": refused")


def test_the_probes_are_told_apart() -> None:
    before = "the liveness probe failed 3 times: no answer"
    told = WorkloadStatus(state="running", pid=7, started=False, live=True, last_end=before)
    waiting = project_status(make_vm(), good(workload=told, health="unknown", health_message="its post_start hook runs"), NOW)
    assert (waiting.phase, waiting.reason) == ("Running", "WaitingForStartup")
    assert waiting.message.endswith(": its post_start hook runs; before that the liveness probe failed 3 times: no answer")
    why = "the liveness probe failed 3 times: Connection refused"
    dead = msgspec.structs.replace(told, started=True, live=False)
    dying = project_status(ready_vm(), good(workload=dead, health="unhealthy", health_message=why), NOW)
    assert (dying.ready, dying.reason, dying.message) == (False, "LivenessFailed", f"{why}; it is ended, to be started again")
    late = project_status(make_vm(), good(workload=told, health="unhealthy", health_message="the startup probe failed"), NOW)
    assert late.reason == "StartupFailed"
    unready = msgspec.structs.replace(told, started=True)
    unwell = project_status(ready_vm(), good(workload=unready, health="unhealthy", health_message="HTTP 500"), NOW)
    assert (unwell.reason, unwell.message) == ("Unhealthy", "the workload fails its health check: HTTP 500")


def test_a_workload_that_was_restarted_often_enough_is_left_at_that() -> None:
    end = EndRecord(run_id="r1", kind="powered_off", message="exited with code 3", at=format_time(NOW), gave_up=True, exit_code=3)
    vm = make_vm(last_end=end)
    assert ended_for_good(vm), "though its policy is always"
    status = project_status(vm, None, NOW)
    assert (status.phase, status.reason) == ("Failed", "RestartLimit")
    asked = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, restart_token=1))
    assert not ended_for_good(asked), "somebody asks for another run"
