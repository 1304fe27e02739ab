"""The route of what a VM uses."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, read_query
from volant.api.schema import NamedStats
from volant.core.errors import NotFound, WrongState

STATS = Operation(
    "read_vm_stats",
    "Read what a running VM uses",
    {200: (Body(NamedStats),)},
    problems=(NotFound, WrongState),
)


@get(f"{PREFIX}/vms/{{name:str}}/stats", opt=STATS.opt)
async def read_vm_stats(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    vm = await intents_of(request.app).vms.get(name)
    stats = await door_of(request.app).read_stats(vm.uid)
    return answer_json({"name": vm.name, **msgspec.to_builtins(stats)})


HANDLERS = (read_vm_stats,)
