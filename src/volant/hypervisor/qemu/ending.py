"""How a guest of QEMU stopped, from the monitor's word and the end of the console."""

from __future__ import annotations

from pathlib import Path

from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import CONSOLE_LOG, read_tail
from volant.hypervisor.qemu.monitor import Stop

_RESET_SIGNS = (b"reboot: Restarting system", b"Kernel panic - not syncing")
_POWER_OFF_SIGNS = (b"reboot: Power down", b"reboot: System halted")


def explain_stop(stop: Stop, state: Path) -> Ending:
    """A guest that stopped while its process lives on."""
    if stop.status == "internal-error":
        return Ending(kind="crashed", message="the hypervisor could not go on with the guest (internal error)")
    if stop.status == "guest-panicked" or stop.reason == "guest-panic":
        return Ending(kind="reset", message="the guest's kernel panicked")
    reason = stop.reason or ("guest-reset" if _console_says_reset(state) else "guest-shutdown")
    if reason == "guest-reset":
        return Ending(kind="reset", message="the guest rebooted or its kernel panicked")
    return Ending(kind="powered_off", message="the guest powered off")


def _console_says_reset(state: Path) -> bool:
    """What the kernel said last, for a volantd that was away when the monitor said why. A lie here is about the liar itself."""
    tail = read_tail(state / CONSOLE_LOG).encode()
    reset = max(tail.rfind(sign) for sign in _RESET_SIGNS)
    return reset > max(tail.rfind(sign) for sign in _POWER_OFF_SIGNS)
