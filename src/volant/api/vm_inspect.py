"""The routes of what the host has of a VM, and of how its process is kept in."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.inspect_records import InspectedVM, NamedSecurity
from volant.api.operation import Body, Operation, read_query
from volant.core.errors import NotFound, WrongState
from volant.core.resource import to_wire

SECURITY = Operation(
    "read_vm_security",
    "Read how a VM process is kept in, as the kernel says",
    {200: (Body(NamedSecurity),)},
    problems=(NotFound, WrongState),
)
INSPECT = Operation(
    "inspect_vm",
    "Read all that there is of a VM: as asked and as it is, its machine, its files and its process on the host",
    {200: (Body(InspectedVM),)},
    problems=(NotFound,),
)


@get(f"{PREFIX}/vms/{{name:str}}/security", opt=SECURITY.opt)
async def read_vm_security(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    vm = await intents_of(request.app).vms.get(name)
    found = await door_of(request.app).read_security(vm.uid)
    return answer_json({"name": vm.name, "weak": len(found.weaknesses), **msgspec.to_builtins(found)})


@get(f"{PREFIX}/vms/{{name:str}}/inspect", opt=INSPECT.opt)
async def inspect_vm(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    vm = await intents_of(request.app).vms.get(name)
    found = await door_of(request.app).inspect(vm.uid)
    return answer_json({"name": vm.name, "vm": to_wire(vm), **msgspec.to_builtins(found)})


HANDLERS = (read_vm_security, inspect_vm)
