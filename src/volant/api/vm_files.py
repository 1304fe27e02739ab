"""Files of a VM as a tar archive, both ways, streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, get, put
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, Query, read_query
from volant.api.problem import describe_error
from volant.api.streamed import Streamed, peek
from volant.core.errors import (
    DiskFull,
    GuestUnreachable,
    InvalidInput,
    Malformed,
    NotFound,
    VolantError,
    WrongMediaType,
    WrongState,
)
from volant.core.ids import Uid
from volant.core.tar import encode_incidents, encode_problem
from volant.node.door import FileStat, FilesWritten, NodeDoor

TAR = "application/x-tar"
FIRST_CHUNK_S = 30.0


def read_path(text: str, name: str) -> str:
    if not text.startswith("/") or "\0" in text or len(text.encode("utf-8", "surrogateescape")) > 4096:
        raise InvalidInput(f"{text[:100]!r} is no absolute path", field=name, hint="begin it with /")
    return text


def read_owner(text: str, name: str) -> tuple[int, int]:
    uid, colon, gid = text.partition(":")
    numbers = (uid, gid if colon else uid)
    if not all(number.isascii() and number.isdecimal() and len(number) <= 10 and int(number) < 2**32 for number in numbers):
        raise InvalidInput(f"{text[:40]!r} is no owner", field=name, hint="uid:gid, as in 33:33")
    return int(numbers[0]), int(numbers[1])


PATH = Query("path", "An absolute path in the guest's root.", read_path, {"type": "string"})
OWNER = Query("owner", "`uid:gid` of all that is made, instead of the archive's.", read_owner, {"type": "string"})

READ = Operation(
    "read_vm_files",
    "Read a file, or a directory with all that is in it",
    {200: (Body(None, TAR, "A tar archive (POSIX pax); its names begin with the last part of `path`."),)},
    query=(PATH,),
    problems=(NotFound, WrongState, GuestUnreachable),
    description=(
        "What goes wrong after the answer began ends it without the end of the archive, after a pax header whose keyword "
        "`VOLANT.problem` holds a problem document. When sockets or devices were passed over, or files shrank meanwhile, "
        'a block `{"skipped": 1, "torn": 0}` follows the end of the archive.'
    ),
)
STAT = Operation(
    "stat_vm_file",
    "Ask what is at a path",
    {200: (Body(FileStat),)},
    query=(PATH,),
    problems=(NotFound, WrongState, GuestUnreachable),
)
WRITE = Operation(
    "write_vm_files",
    "Make files below a directory",
    {200: (Body(FilesWritten),)},
    query=(PATH, OWNER),
    request=Body(None, TAR, "A tar archive, not compressed, with names below `path`."),
    problems=(Malformed, WrongMediaType, NotFound, WrongState, DiskFull, GuestUnreachable),
    description="Files that were whole before an error stay; none is left half.",
)


@get(f"{PREFIX}/vms/{{name:str}}/files", opt=READ.opt)
async def read_vm_files(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    path = _require_path(read_query(request)["path"])
    vm = await intents_of(request.app).vms.get(name)
    begun = await peek(_archive(door_of(request.app), vm.uid, path), FIRST_CHUNK_S)
    return Streamed(request.app, begun, media_type=TAR)


@get(f"{PREFIX}/vms/{{name:str}}/files/stat", opt=STAT.opt)
async def stat_vm_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    path = _require_path(read_query(request)["path"])
    vm = await intents_of(request.app).vms.get(name)
    async with door_of(request.app).read_files(vm.uid, path) as reader:
        return answer_json(reader.stat)


@put(f"{PREFIX}/vms/{{name:str}}/files", opt=WRITE.opt, request_max_body_size=None)
async def write_vm_files(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    path = _require_path(asked["path"])
    media_type = request.headers.get("content-type", TAR).partition(";")[0].strip().lower()
    if media_type != TAR:
        raise WrongMediaType("this takes a tar archive", hint=f"send it with Content-Type: {TAR}")
    vm = await intents_of(request.app).vms.get(name)
    return answer_json(await door_of(request.app).write_files(vm.uid, path, _read_body(request), owner=asked["owner"]))


async def _archive(door: NodeDoor, uid: Uid, path: str) -> AsyncIterator[bytes]:
    begun = False
    try:
        async with door.read_files(uid, path) as reader:
            async for chunk in reader:
                yield chunk
                begun = True
            if reader.skipped or reader.torn:
                yield encode_incidents(reader.skipped, reader.torn)
    except VolantError as error:
        if begun:
            yield encode_problem(msgspec.json.encode(describe_error(error)))
        raise


async def _read_body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Malformed when the client goes before its end."""
    more = True
    while more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the client went before the end of the archive")
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)


def _require_path(path: str | None) -> str:
    if path is None:
        raise InvalidInput("which path?", field="path", hint="?path=/etc/nginx")
    return path


HANDLERS = (read_vm_files, stat_vm_file, write_vm_files)
