"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07): a request that is sent twice is done once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Send

from volant.api.access import intents_of
from volant.api.answer import answer_resource
from volant.api.operation import Operation, read_query
from volant.api.protocol import PEER
from volant.api.waiting import wait_vm
from volant.auth.peer import Peer
from volant.core.errors import AnswerLost, Malformed, NotFound
from volant.core.network import Network
from volant.core.plugin import Plugin
from volant.core.resource import Resource
from volant.core.snapshot import Snapshot
from volant.core.vm import VM
from volant.intent.kept_answers import Attempt, KeptAnswer, begin_attempt

if TYPE_CHECKING:
    from volant.intent.kept_answers import KeptAnswers

HEADER = "idempotency-key"
REPLAYED = "volant-replayed"
ATTEMPT = "volant_attempt"
"""The key of the Attempt in an ASGI scope's ``state``."""

CONTENT_MAX_BYTES = 1024 * 1024
_KEY = re.compile(r'"[A-Za-z0-9._:-]{1,255}"|[A-Za-z0-9._:-]{1,255}')
_NOT_KEPT = frozenset({"content-length", "volant-request-id", "date", "connection", "transfer-encoding"})
_FOUND_BY: dict[type[Resource[Any, Any]], str] = {VM: "vms", Plugin: "plugins", Snapshot: "snapshots", Network: "networks"}

Asked = Request[Any, Any, Any]


async def admit_once(request: Asked, operation: Operation) -> Response[bytes] | None:
    """None when the request is to be done, else the answer that it got before.

    Raises:
        Malformed: the key cannot be one. InProgress, KeyReused: as KeptAnswers.begin. AnswerLost: it had its effect, and its
            answer can neither be found nor made anew.
    """
    given = request.headers.getall(HEADER, [])
    if not given or request.method != "POST" or not operation.takes_key:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise Malformed(
            "an Idempotency-Key is one word of 1 to 255 letters, digits and . _ : -",
            field="Idempotency-Key",
            hint="a UUID is a good one",
        )
    kept: KeptAnswers | None = getattr(intents_of(request.app), "kept_answers", None)
    if kept is None:
        return None
    begun = await kept.begin(_name_caller(request), given[0].strip('"'), await _describe(request))
    if isinstance(begun, KeptAnswer):
        return Response(begun.content, status_code=begun.status, headers={**begun.headers, REPLAYED: "true"})
    request.scope["state"][ATTEMPT] = begun
    if begun.earlier is not None:
        return await _answer_anew(request, operation, begun)
    begin_attempt(begun)
    return None


def remember_answers(app: ASGIApp) -> ASGIApp:
    """``app``, whose answers to what ``admit_once`` let in are kept before the client has them."""

    async def remembered(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        heard = _Heard()

        async def listen(message: Message) -> None:
            if heard.listen(message) and (attempt := scope["state"].pop(ATTEMPT, None)) is not None:
                _finish(scope, attempt, heard.answer(attempt))
            await send(message)

        try:
            await app(scope, receive, listen)
        finally:
            attempt = scope.get("state", {}).pop(ATTEMPT, None)
            if attempt is not None:
                _finish(scope, attempt, None)

    return remembered


def _finish(scope: Any, attempt: Attempt, answer: KeptAnswer | None) -> None:
    intents_of(scope["litestar_app"]).kept_answers.finish(attempt, answer)  # type: ignore[union-attr]  # it made the attempt


class _Heard:
    """An answer as it goes by."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._content = bytearray()
        self._whole = False

    def listen(self, message: Message) -> bool:
        """True when this was the end of it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
            # What is streamed has no known length, and ends in the same way when it is cut.
            self._whole = "content-length" in self._headers or self._status == 204
        elif message["type"] == "http.response.body":
            if len(self._content) <= CONTENT_MAX_BYTES:
                self._content += message["body"]
            return not message["more_body"]
        return False

    def answer(self, attempt: Attempt) -> KeptAnswer | None:
        """None when it is not to be kept: what had no effect and failed may be tried again, and so may what was cut short."""
        if not self._whole or self._status == 503 or len(self._content) > CONTENT_MAX_BYTES:
            return None
        if not attempt.has_effect and self._status >= 300:
            return None
        headers = {name: value for name, value in self._headers.items() if name not in _NOT_KEPT}
        return KeptAnswer(status=self._status, headers=headers, content=bytes(self._content))


def _name_caller(request: Asked) -> str:
    peer = request.scope.get("state", {}).get(PEER)
    return f"uid {peer.uid}" if isinstance(peer, Peer) else "token"


async def _describe(request: Asked) -> bytes:
    """All that decides what is asked for."""
    query = sorted(request.query_params.multi_items())
    headers = [request.headers.get(name, "") for name in ("if-match", "content-type", "volant-reason")]
    return msgspec.json.encode((request.method, request.url.path, query, headers, await request.body()))


async def _answer_anew(request: Asked, operation: Operation, attempt: Attempt) -> Response[bytes]:
    """Of a request that was done before volantd was killed, or could not write down what it answered."""
    for status, bodies in sorted(operation.answers.items(), reverse=True):
        cls = next((body.of for body in bodies if isinstance(body.of, type) and body.of in _FOUND_BY), None)
        written = [each for each in attempt.touched if cls is not None and each.kind == cls.kind]
        named = request.path_params.get("name", "")
        found = next((each for each in written if each.name == named), written[0] if written else None)
        if cls is None or found is None or (status == 201 and not found.created):
            continue
        try:
            resource: Resource[Any, Any] = await getattr(intents_of(request.app), _FOUND_BY[cls]).get(found.name)
        except NotFound:
            break
        if isinstance(resource, VM) and not resource.deleting:
            resource = await wait_vm(request, resource, {"wait": None, "timeout": None, **read_query(request)})
        return answer_resource(resource, status)
    raise AnswerLost("this was done, and what was answered is no longer known", hint="look at what it changed")
