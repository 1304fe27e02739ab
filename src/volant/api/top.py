"""The route of what all VMs use, in one answer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response, get

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, read_query
from volant.api.paging import SELECTOR
from volant.api.schema import AllStats, NamedStats, Unread
from volant.core.errors import NotFound, TimedOut, VolantError, WrongState
from volant.core.selector import Selector
from volant.core.vm import VM
from volant.node.door import NodeDoor

AT_ONCE = 256
ONE_S = 5.0
"""Of one VM: its host and its guest have shorter limits of their own."""

ALL = Operation(
    "read_stats",
    "Read what all running VMs use",
    {200: (Body(AllStats),)},
    query=(SELECTOR,),
    description=(
        "Those that do not run are left out. All are asked at once; a guest that does not answer costs a second, and its "
        "`guest_*` are null. `unread` names those that could not be asked at all."
    ),
)


@get(f"{PREFIX}/stats", opt=ALL.opt)
async def read_all_stats(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = read_query(request)
    selector: Selector = asked["labels"] or Selector()
    vms, _ = await intents_of(request.app).vms.list(labels=selector.exact or None)
    door = door_of(request.app)
    room = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(_read_one(door, vm, room)) for vm in vms if selector.matches(vm.meta.labels)]
    found = [task.result() for task in reading]
    items = sorted((one for one in found if isinstance(one, NamedStats)), key=lambda one: one.name)
    return answer_json(AllStats(items=items, unread=[one for one in found if isinstance(one, Unread)]))


async def _read_one(door: NodeDoor, vm: VM, room: asyncio.Semaphore) -> NamedStats | Unread | None:
    """None for one that does not run."""
    try:
        async with room, asyncio.timeout(ONE_S):
            stats = await door.read_stats(vm.uid)
    except (WrongState, NotFound):
        return None
    except (VolantError, TimeoutError) as error:
        told = error if isinstance(error, VolantError) else TimedOut(f"the host did not tell within {ONE_S:g} s")
        return Unread(name=vm.name, code=told.code, detail=told.message)
    return NamedStats(name=vm.name, **msgspec.structs.asdict(stats))


HANDLERS = (read_all_stats,)
