"""What a VM's workload wrote, line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.operation import Body, Operation, read_query
from volant.api.parameters import FOLLOW, PREVIOUS, SINCE, TAIL
from volant.api.problem import Problem, describe_error
from volant.api.schema import reference
from volant.api.streamed import Streamed, accepts, peek
from volant.core.errors import GuestUnreachable, NotFound, VolantError, WrongState
from volant.node.door import LogLine

NDJSON = "application/x-ndjson"
TEXT = "text/plain"

FIRST_LINE_S = 10.0
"""How long an answer waits for the first of what is stored already."""

FIRST_FOLLOWED_S = 0.5
"""The same while following, where there may be nothing to come for long."""

LOGS = Operation(
    "read_vm_logs",
    "Read what the workload wrote",
    {
        200: (
            Body({"anyOf": [reference(LogLine), reference(Problem)]}, NDJSON, "One record a line."),
            Body({"type": "string"}, TEXT, "The text alone, when Accept asks for it."),
        )
    },
    query=(FOLLOW, TAIL, SINCE, PREVIOUS),
    problems=(NotFound, GuestUnreachable, WrongState),
    description="An error that comes up after the answer began is its last line, a problem document.",
)


@get(f"{PREFIX}/vms/{{name:str}}/logs", opt=LOGS.opt)
async def read_vm_logs(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    vm = await intents_of(request.app).vms.get(name)
    follow = bool(asked["follow"])
    lines = door_of(request.app).read_logs(
        vm.uid, tail=asked["tail"], since=asked["since"], previous=bool(asked["previous"]), follow=follow
    )
    begun = await peek(lines, FIRST_FOLLOWED_S if follow else FIRST_LINE_S)
    if accepts(request, TEXT):
        return Streamed(request.app, _as_text(begun), media_type=f"{TEXT}; charset=utf-8")
    return Streamed(request.app, _as_ndjson(begun), media_type=NDJSON)


async def _as_ndjson(lines: AsyncIterator[LogLine]) -> AsyncIterator[bytes]:
    try:
        async for line in lines:
            yield msgspec.json.encode(line) + b"\n"
    except VolantError as error:
        yield msgspec.json.encode(describe_error(error)) + b"\n"


async def _as_text(lines: AsyncIterator[LogLine]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line.text.encode("utf-8", "replace") + (b"" if line.partial else b"\n")


HANDLERS = (read_vm_logs,)
