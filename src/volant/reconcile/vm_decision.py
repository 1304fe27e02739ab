"""What to do next about one VM: a pure function of what was asked and what was seen. The phase plays no part in it."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from volant.core.clock import parse_time
from volant.core.condition import is_false, is_true
from volant.core.manifest import RestartPolicy
from volant.core.vm import BOOTED, SCHEDULED, VM, EndRecord
from volant.hypervisor.driver import Ending

LONGEST_RETRY_S = 60.0
"""Between a start that failed, or an end that nobody wanted, and the next start."""

STOP_MARGIN_S = 5.0
"""Beyond its grace, what a guest gets to sync, unmount and power off before it is killed."""


BOOT_DEADLINE_S = 120.0
"""How long a run may take until its agent has answered for the first time. A busy host emulating many starts needs a while."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the host shows of a VM. ``ending`` with ``alive`` False is the account of the latest run."""

    run_id: str = ""
    alive: bool = False
    ending: Ending | None = None
    stop_asked_at: datetime | None = None
    """When this volantd first tried to ask the guest to switch itself off."""
    stop_delivered: bool = False
    has_agent: bool = True
    """False for a guest in which nobody answers, however long one waits."""
    silent_s: float = 0.0
    """Seconds for which this volantd has tended the run without hearing from its agent at all; 0 once it has."""
    agent_waits: bool = False
    """The agent is connected and has not been configured."""
    agent_differs: bool = False
    """The agent is connected and was told to be another machine, or the same in another life."""
    settled: bool = False
    """The agent was told who it is, as far as it has shown itself."""
    healthy: bool = False
    """Settled, and its agent is connected and says that the workload runs and passes its check."""
    paused: bool = False
    """Its processors stand still."""
    asleep: bool = False
    """Nothing runs, and what was saved of it lies ready."""
    busy: bool = False
    """Somebody has it in hand, for a moment."""
    hold_s: float = 0.0
    """How long the end that was asked for is to wait for those who are connected to it."""


class Schedule(msgspec.Struct, frozen=True):
    """It waits for the scheduler to give it a node and a slot there, or room on the node where it is."""


class Launch(msgspec.Struct, frozen=True):
    """Begin a run."""


class Configure(msgspec.Struct, frozen=True):
    """Tell the waiting agent who it is."""


class Renew(msgspec.Struct, frozen=True):
    """Tell an agent that runs a workload already who it is now."""


class Install(msgspec.Struct, frozen=True):
    """Lay the snapshot ready that it is to begin from; whatever runs or was saved gives way."""


class Wake(msgspec.Struct, frozen=True):
    """Let it go on from what was saved."""


class Suspend(msgspec.Struct, frozen=True):
    """Save it and end its process."""


class Park(msgspec.Struct, frozen=True):
    """Pause a clone that is ready to be taken."""


class Resume(msgspec.Struct, frozen=True):
    """Let a paused guest run."""


class AskStop(msgspec.Struct, frozen=True):
    """Ask the guest for an orderly shutdown."""


class Destroy(msgspec.Struct, frozen=True):
    """End the VM process now."""

    reason: str


class RecordEnd(msgspec.Struct, frozen=True):
    """Write down how the run ended and clear what is left of it."""

    ending: Ending


class Discard(msgspec.Struct, frozen=True):
    """What was saved of it is given up: it was to end at once."""


class Release(msgspec.Struct, frozen=True):
    """Nothing runs any more and it is to go: give everything back."""


class Rest(msgspec.Struct, frozen=True):
    """Nothing to do now; look again in ``seconds`` when given."""

    seconds: float | None = None


Action = (
    Schedule
    | Launch
    | Configure
    | Renew
    | Install
    | Wake
    | Suspend
    | Park
    | Resume
    | AskStop
    | Destroy
    | Discard
    | RecordEnd
    | Release
    | Rest
)


def decide(vm: VM, seen: Seen, now: datetime) -> Action:
    """The next step for ``vm``. Every step may be taken twice."""
    status = vm.status
    this_run = bool(seen.run_id) and seen.run_id == status.run_id
    if seen.alive:
        if not this_run:
            return Destroy("it is no run that was asked for")
        return _decide_alive(vm, seen, now)
    if seen.asleep:
        return _decide_asleep(vm, now)
    if this_run and seen.ending is not None and not end_recorded(vm):
        return RecordEnd(seen.ending)
    if status.run_id and status.started_at is not None and not end_recorded(vm):
        return RecordEnd(Ending(kind="lost", message="the VM process is gone and left no account"))
    if vm.deleting:
        return Release()
    if not wants_run(vm) or ended_for_good(vm):
        return Rest()
    if wants_place(vm):
        return Schedule()
    waiting = _wait_for_retry(vm, now)
    if waiting is not None:
        return waiting
    return Install() if install_due(vm) else Launch()


def _decide_asleep(vm: VM, now: datetime) -> Action:
    if vm.deleting:
        return Release()
    if vm.spec.power == "stopped" and vm.spec.force_stop:
        return Discard()
    if install_due(vm):
        return Install()
    if vm.spec.power == "suspended" and vm.status.started_token == vm.spec.restart_token:
        return Rest()
    if wants_place(vm):
        return Schedule()
    # To stop it in an orderly way, too, it has to wake.
    return _wait_for_retry(vm, now) or Wake()


def _wait_for_retry(vm: VM, now: datetime) -> Rest | None:
    status = vm.status
    if status.retry_at is None or status.started_token != vm.spec.restart_token:
        return None
    left_s = (parse_time(status.retry_at) - now).total_seconds()
    # A wait that is longer than any was written down before somebody set the clock back.
    return Rest(left_s) if 0 < left_s <= LONGEST_RETRY_S + 1 else None


def _decide_alive(vm: VM, seen: Seen, now: datetime) -> Action:
    if seen.ending is not None:
        return RecordEnd(seen.ending)
    if seen.busy:
        # Whoever has it in hand lets go soon, and has us look again.
        return Rest()
    if vm.spec.force_stop and end_was_asked(vm):
        return Destroy("it was to end at once")
    if install_due(vm):
        return Install()
    if seen.hold_s and seen.stop_asked_at is None and not seen.paused and (end_was_asked(vm) or vm.spec.power == "suspended"):
        return Rest(seen.hold_s)
    if not seen.has_agent:
        return _decide_without_agent(vm, seen)
    if end_was_asked(vm):
        return Resume() if seen.paused and seen.stop_asked_at is None else _decide_stop(vm, seen, now)
    if vm.spec.power == "suspended" and (seen.settled or seen.paused):
        return Suspend()
    if vm.spec.power == "parked":
        if seen.paused:
            return Rest()
        if seen.healthy:
            return Park()
    if seen.paused:
        return Resume()
    if seen.agent_waits:
        return Configure()
    if seen.agent_differs:
        return Renew()
    if seen.silent_s and not is_true(vm.status.conditions, BOOTED):
        if seen.silent_s >= BOOT_DEADLINE_S:
            return Destroy(f"its agent did not answer within {BOOT_DEADLINE_S:g} s of the start")
        return Rest(BOOT_DEADLINE_S - seen.silent_s)
    return Rest()


def _decide_without_agent(vm: VM, seen: Seen) -> Action:
    if end_was_asked(vm):
        # There is nobody to be asked, and waiting for nobody would be for show.
        return Destroy("its guest has no agent that could be asked to stop")
    return Resume() if seen.paused else Rest()


def _decide_stop(vm: VM, seen: Seen, now: datetime) -> Action:
    if seen.stop_asked_at is None:
        return AskStop()
    deadline = seen.stop_asked_at + timedelta(seconds=vm.spec.grace_s + STOP_MARGIN_S)
    if now >= deadline:
        return Destroy(f"it did not switch itself off within {vm.spec.grace_s + STOP_MARGIN_S:g} s")
    if not seen.stop_delivered:
        return AskStop()
    return Rest((deadline - now).total_seconds())


def is_starting(vm: VM, seen: Seen) -> bool:
    """True while its run is on the way to being ready."""
    return seen.alive and not seen.paused and seen.ending is None and not vm.status.ready and not end_was_asked(vm)


def wants_run(vm: VM) -> bool:
    """True when something should run for it that does not run yet."""
    return not vm.deleting and vm.spec.power in ("running", "parked")


def wants_place(vm: VM) -> bool:
    """True when something should run for it, and it has no node or gave back what it held there."""
    if not wants_run(vm) or ended_for_good(vm):
        return False
    return vm.status.slot is None or is_false(vm.status.conditions, SCHEDULED)


def install_due(vm: VM) -> bool:
    """True when it is to begin from a snapshot and has not yet."""
    return bool(vm.spec.snapshot) and not vm.deleting and vm.status.snapshot_token != vm.spec.snapshot_token


def end_recorded(vm: VM) -> bool:
    """True when the latest run's end is in the status already."""
    return vm.status.last_end is not None and vm.status.last_end.run_id == vm.status.run_id


def end_was_asked(vm: VM) -> bool:
    """True when a run that ends now ends because somebody wanted it to."""
    return vm.deleting or vm.spec.power == "stopped" or vm.status.started_token != vm.spec.restart_token


def ended_for_good(vm: VM) -> bool:
    """True when the latest run ended unasked and its restart policy leaves it at that until somebody asks for a start."""
    end = vm.status.last_end
    return (
        end is not None
        and end_recorded(vm)
        and not end.asked
        and vm.status.started_token == vm.spec.restart_token
        and not restarts_after(vm.spec.policy, end)
    )


def restarts_after(policy: RestartPolicy, end: EndRecord) -> bool:
    """Whether a run that ended unasked is followed by another."""
    return not end.gave_up and (policy == "always" or (policy == "on-failure" and not end.clean))
