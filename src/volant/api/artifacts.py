"""The routes of artifacts: files that plugins name by their digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from litestar import Request, Response, delete, get, head, post, put
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json, answer_nothing
from volant.api.operation import Body, Operation, read_query
from volant.api.parameters import DRY_RUN
from volant.api.schema import StoredArtifact
from volant.core.errors import ChecksumMismatch, DiskFull, InUse, InvalidInput, Malformed, NotFound, TooLarge
from volant.core.ids import Digest, check_digest

ARTIFACT_MAX_BYTES = 64 * 1024**3
UPLOAD_GRACE_S = 3600.0
"""A file that came since then may belong to a plugin that is being installed now."""

_FILE = {
    "type": "object",
    "description": "A stored file, and what needs it: plugins with their version, and VMs with files of their own.",
    "properties": {
        "digest": {"type": "string"},
        "size_bytes": {"type": "integer"},
        "needed_by": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["digest", "size_bytes", "needed_by"],
    "additionalProperties": False,
}
_FILES = Body({"type": "object", "properties": {"items": {"type": "array", "items": _FILE}}, "required": ["items"]})

LIST = Operation("list_artifacts", "List the files that plugins and VMs are made of", {200: (_FILES,)})
DELETE = Operation(
    "delete_artifact",
    "Remove a file that nothing needs",
    {204: (Body(description="It is gone."),)},
    problems=(NotFound, InvalidInput, InUse),
)
PRUNE = Operation(
    "prune_artifacts",
    "Remove every file that nothing needs",
    {200: (_FILES,)},
    query=(DRY_RUN,),
    description="Answers with those that went, or would. What came within the last hour stays: its plugin may come, too. "
    "Without being asked, volantd does the same after a day.",
)

HEAD = Operation(
    "head_artifact",
    "Ask whether a file is stored",
    {200: (Body(headers=("Volant-Size",), description="It is; the header says how many bytes it has."),)},
    problems=(NotFound, InvalidInput),
)
PUT = Operation(
    "put_artifact",
    "Store a file under its digest",
    {200: (Body(StoredArtifact, description="It was there."),), 201: (Body(StoredArtifact),)},
    request=Body(None, "application/octet-stream", f"At most {ARTIFACT_MAX_BYTES} bytes."),
    problems=(InvalidInput, Malformed, TooLarge, ChecksumMismatch, DiskFull),
    description="The content is verified while it comes; nothing is kept when it is not what the digest says.",
)


@head(f"{PREFIX}/artifacts/{{digest:str}}", opt=HEAD.opt)
async def head_artifact(request: Request[Any, Any, Any], digest: FromPath[str]) -> Response[None]:
    read_query(request)
    size = await door_of(request.app).artifact_size(check_digest(digest, "digest"))
    if size is None:
        raise NotFound("there is no such artifact")
    return Response(None, headers={"volant-size": str(size)})


@put(f"{PREFIX}/artifacts/{{digest:str}}", opt=PUT.opt, request_max_body_size=None)
async def put_artifact(request: Request[Any, Any, Any], digest: FromPath[str]) -> Response[bytes]:
    read_query(request)
    wanted = check_digest(digest, "digest")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > ARTIFACT_MAX_BYTES:
        raise TooLarge(f"a file may have {ARTIFACT_MAX_BYTES} bytes")
    size = await door_of(request.app).artifact_size(wanted)
    if size is not None:
        return answer_json(StoredArtifact(digest=wanted, size_bytes=size))
    size = await door_of(request.app).put_artifact(wanted, _read_body(request))
    return answer_json(StoredArtifact(digest=wanted, size_bytes=size), 201)


async def _read_body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooLarge, and Malformed when the client goes before its end."""
    seen = 0
    while True:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the client went before the end of the file")
        chunk = message.get("body", b"")
        seen += len(chunk)
        if seen > ARTIFACT_MAX_BYTES:
            raise TooLarge(f"a file may have {ARTIFACT_MAX_BYTES} bytes")
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


@get(f"{PREFIX}/artifacts", opt=LIST.opt)
async def list_artifacts(request: Request[Any, Any, Any]) -> Response[bytes]:
    read_query(request)
    stored = await door_of(request.app).list_artifacts()
    needed = await intents_of(request.app).plugins.list_needed()
    return answer_json({"items": [_describe(digest, size, needed) for digest, size in sorted(stored.items())]})


@delete(f"{PREFIX}/artifacts/{{digest:str}}", opt=DELETE.opt, status_code=202)
async def delete_artifact(request: Request[Any, Any, Any], digest: FromPath[str]) -> Response[bytes]:
    read_query(request)
    wanted = check_digest(digest, "digest")
    if await door_of(request.app).artifact_size(wanted) is None:
        raise NotFound("there is no such artifact")
    users = (await intents_of(request.app).plugins.list_needed()).get(wanted)
    if users:
        raise InUse(f"{wanted} is needed by {', '.join(sorted(users)[:5])}", hint="it goes with the last of them")
    if not await door_of(request.app).remove_artifacts([wanted]):
        raise InUse(f"{wanted} is held by a program on the host that builds with it", hint="fledge images list")
    return answer_nothing()


@post(f"{PREFIX}/artifacts/prune", opt=PRUNE.opt, status_code=200)
async def prune_artifacts(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = read_query(request)
    door = door_of(request.app)
    old = await door.list_artifacts(older_than_s=UPLOAD_GRACE_S)
    needed = await intents_of(request.app).plugins.list_needed()
    free = {digest: size for digest, size in sorted(old.items()) if digest not in needed}
    if not asked["dry_run"]:
        gone = await door.remove_artifacts(free)
        free = {digest: size for digest, size in free.items() if digest in gone}
    return answer_json({"items": [_describe(digest, size, {}) for digest, size in free.items()]})


def _describe(digest: Digest, size_bytes: int, needed: Mapping[Digest, AbstractSet[str]]) -> dict[str, Any]:
    return {"digest": digest, "size_bytes": size_bytes, "needed_by": sorted(needed.get(digest, ()))}


HANDLERS = (list_artifacts, head_artifact, put_artifact, delete_artifact, prune_artifacts)
