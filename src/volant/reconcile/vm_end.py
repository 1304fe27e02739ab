"""How a run ended, in the words of its guest: what its agent said, or what it left behind for a volantd that was away."""

from __future__ import annotations

import msgspec

from volant.guest.farewell import Farewell
from volant.guest.protocol import Exit
from volant.guest.state import AgentState
from volant.hypervisor.driver import Ending

_GUEST_ENDED = "the guest switched itself off"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Why the guest stopped, and how its workload ended last; ``exit`` is None when that is not known, or it never did."""

    reason: str
    exit: Exit | None = None
    message: str = ""


def account_of(agent: AgentState) -> Account | None:
    """What the agent said of its end; None when we did not hear it."""
    if agent.stopping is None:
        return None
    workload = agent.workload
    return Account(
        reason=agent.stopping.reason,
        exit=None if workload is None else workload.exit,
        message="" if workload is None else workload.message,
    )


def account_from(farewell: Farewell) -> Account:
    """The same of what it left on its console, which says no more than how it ended."""
    ended, message = farewell.exit, ""
    if ended is not None:
        message = f"exited with code {ended.code}" if ended.signal is None else f"ended by signal {ended.signal}"
        if farewell.reason == "restart_limit":
            message += "; it was restarted as often as it may be"
    return Account(reason=farewell.reason, exit=ended, message=message)


def describe_end(ending: Ending, account: Account | None) -> tuple[bool, str]:
    """``(clean, words)``: whether it ended as a finished program does, and how in a sentence."""
    if ending.kind != "powered_off":
        return False, ending.message
    if account is None or account.reason == "requested":
        return True, _GUEST_ENDED
    if account.reason == "workload_ended":
        return account.exit is None or account.exit.code == 0, account.message or "the workload ended"
    return False, account.message or "the guest gave up"


def find_exit(ending: Ending, account: Account | None) -> tuple[Exit, bool]:
    """How the workload ended, when that is why the guest did; and whether it was restarted as often as it may be."""
    if ending.kind != "powered_off" or account is None or account.reason == "requested":
        return Exit(), False
    return account.exit or Exit(), account.reason == "restart_limit"
