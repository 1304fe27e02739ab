"""How an end is told: by what the agent said, by what it left on the console, or by neither."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from volant.guest.farewell import Farewell
from volant.guest.protocol import Exit, StoppingNotice, WorkloadNotice
from volant.guest.state import AgentState
from volant.hypervisor.driver import Ending
from volant.reconcile.vm_end import Account, account_from, account_of, describe_end, find_exit

OFF = Ending(kind="powered_off", message="the guest powered off")
CASES: list[tuple[str, Exit | None, bool, str, Exit, bool]] = [
    ("workload_ended", Exit(code=0), True, "exited with code 0", Exit(code=0), False),
    ("workload_ended", Exit(code=7), False, "exited with code 7", Exit(code=7), False),
    ("workload_ended", Exit(signal=9), False, "ended by signal 9", Exit(signal=9), False),
    ("restart_limit", Exit(code=3), False, "exited with code 3", Exit(code=3), True),
    ("failed", None, False, "the guest gave up", Exit(), False),
    ("requested", Exit(code=3), True, "the guest switched itself off", Exit(), False),
]


def agent(**members: Any) -> AgentState:
    return AgentState(since=datetime(2026, 1, 1, tzinfo=UTC), **members)


@pytest.mark.parametrize(("reason", "ended", "clean", "words", "exit_", "gave_up"), CASES)
def test_both_ways_of_telling_say_the_same(
    reason: Any, ended: Exit | None, clean: bool, words: str, exit_: Exit, gave_up: bool
) -> None:
    left = account_from(Farewell(reason=reason, exit=ended))
    workload = WorkloadNotice(workload="main", state="exited", exit=ended, message=words if ended else "")
    said = account_of(agent(stopping=StoppingNotice(reason=reason), workload=workload))
    for account in (left, said):
        told = describe_end(OFF, account)
        assert told[0] == clean
        assert told[1].startswith(words)
        assert find_exit(OFF, account) == (exit_, gave_up)


def test_an_end_of_which_nothing_was_heard() -> None:
    assert account_of(agent()) is None
    assert account_of(agent(workload=WorkloadNotice(workload="main", state="exited", exit=Exit(code=7)))) is None
    assert describe_end(OFF, None) == (True, "the guest switched itself off")
    assert find_exit(OFF, None) == (Exit(), False)


@pytest.mark.parametrize("kind", ["reset", "crashed", "killed", "lost"])
def test_an_end_that_was_no_power_off_is_the_hosts_to_tell(kind: Any) -> None:
    account = Account(reason="workload_ended", exit=Exit(code=0), message="exited with code 0")
    ending = Ending(kind=kind, message="it went wrong")
    assert describe_end(ending, account) == (False, "it went wrong")
    assert find_exit(ending, account) == (Exit(), False)
