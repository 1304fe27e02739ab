"""What the writes have in common that answer after a wait with an end, or only when nobody wrote in between."""

from __future__ import annotations

from typing import Any

from litestar import Request

from volant.api.access import intents_of
from volant.api.parameters import WAIT_DEFAULT_S
from volant.api.stopping import unless_stopping
from volant.core.errors import NotFound, PreconditionFailed, StaleRevision
from volant.core.vm import VM


async def wait_vm(request: Request[Any, Any, Any], vm: VM, asked: dict[str, Any]) -> VM:
    """``vm`` as it is when what the query ``asked`` for is reached or out of reach; at once when it asked for nothing."""
    if asked["wait"] is None:
        return vm
    timeout_s = asked["timeout"] or WAIT_DEFAULT_S
    waited = await unless_stopping(request.app, intents_of(request.app).vms.wait(vm, asked["wait"], timeout_s=timeout_s))
    if waited is None:
        raise NotFound(f"the VM {vm.name!r} was deleted in the meantime")
    return waited


def as_precondition(error: StaleRevision, expected: int | None) -> StaleRevision:
    """What to raise instead of ``error`` when the caller foresaw it with If-Match."""
    return error if expected is None else PreconditionFailed(error.message, hint=error.hint)
