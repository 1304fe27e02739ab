"""Power as somebody asks for it, in the words of a VM's spec."""

from __future__ import annotations

import msgspec

from volant.core.errors import InvalidInput, WrongState
from volant.core.plugin import Plugin
from volant.core.vm import VM, Power, VMSpec


def with_power(vm: VM, power: Power, *, anew: bool = False) -> VMSpec:
    """The spec of ``vm`` with ``power`` asked for; with ``anew`` a run that ended for good is followed by another.

    Raises:
        WrongState: a VM that does not run is to be suspended. InvalidInput: nobody may ask for that.
    """
    spec = vm.spec
    if power == "parked":
        raise InvalidInput("only a pool parks", field="power", hint="running, stopped or suspended")
    if power == "stopped":
        return msgspec.structs.replace(spec, power="stopped")
    has_ended = vm.status.phase in ("Stopped", "Failed")
    if power == "suspended" and (spec.power == "stopped" or has_ended):
        raise WrongState(f"the VM {vm.name!r} does not run", hint=f"volar vms start {vm.name}")
    ended_for_good = has_ended and vm.status.started_token == spec.restart_token
    token = spec.restart_token + (1 if anew and (spec.power == "stopped" or ended_for_good) else 0)
    return msgspec.structs.replace(spec, power=power, restart_token=token, force_stop=False)


def check_suspend(name: str, plugin: Plugin) -> None:
    """Raises WrongState when a VM of ``plugin`` cannot sleep."""
    if plugin.manifest.agent == "none":
        raise WrongState(f"the VM {name!r} cannot be suspended: its guest has no agent that would set its clock when it wakes")
