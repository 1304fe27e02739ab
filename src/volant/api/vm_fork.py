"""The routes that put a VM somewhere else in time: new VMs that go on from where it is, and itself back to a snapshot."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_resource
from volant.api.operation import Body, Operation, read_if_match, read_query, read_record
from volant.api.parameters import wait_for
from volant.api.schema import ForkWanted, SnapshotNamed, list_of_made
from volant.api.stopping import unless_stopping
from volant.api.waiting import as_precondition, wait_vm
from volant.core.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.resource import to_wire
from volant.core.vm import VM

Asked = Request[Any, Any, Any]

FORK = Operation(
    "fork_vm",
    "Make new VMs that go on from where a VM is now",
    {201: (list_of_made(VM),)},
    request=Body(ForkWanted),
    problems=(NotFound, InvalidInput, AlreadyExists, Exhausted, WrongState, TimedOut),
    description=(
        "All or none. Each gets an identity of its own, publishes no port, and is answered as it is written down: "
        "watch it become ready."
    ),
)
RESTORE = Operation(
    "restore_vm",
    "Put a VM back to one of its snapshots",
    {200: (Body(VM, headers=("ETag",)),)},
    query=wait_for("ready"),
    request=Body(SnapshotNamed),
    problems=(NotFound, InvalidInput, WrongState, TimedOut),
    if_match=True,
    description="What it did since is lost.",
)


@post(f"{PREFIX}/vms/{{name:str}}/fork", opt=FORK.opt)
async def fork_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    names = (await read_record(request, ForkWanted)).names
    for each in names:
        if names.count(each) > 1:
            raise InvalidInput(f"the name {each[:80]!r} is given twice", field="names")
    made = await unless_stopping(request.app, intents_of(request.app).snapshots.fork(name, names))
    return answer_json({"items": [to_wire(vm) for vm in made]}, 201)


@post(f"{PREFIX}/vms/{{name:str}}/restore", opt=RESTORE.opt, status_code=200)
async def restore_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = await read_record(request, SnapshotNamed)
    try:
        vm = await intents_of(request.app).vms.restore(name, wanted.snapshot, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(await wait_vm(request, vm, asked))


HANDLERS = (fork_vm, restore_vm)
