"""The routes of artifacts: files that plugins name by their digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response, head, put
from litestar.params import FromPath

from volant.api.access import door_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, read_query
from volant.api.schema import StoredArtifact
from volant.core.errors import ChecksumMismatch, DiskFull, InvalidInput, Malformed, NotFound, TooLarge
from volant.core.ids import check_digest

ARTIFACT_MAX_BYTES = 64 * 1024**3

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


HANDLERS = (head_artifact, put_artifact)
