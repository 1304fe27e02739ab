"""The route of events: a list, or a stream for who asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response, get

from volant.api import sse
from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_list
from volant.api.headers import LAST_EVENT_ID
from volant.api.operation import Body, Operation, read_query
from volant.api.parameters import ABOUT_KIND, ABOUT_NAME, LIMIT
from volant.api.schema import list_of, one_of_events
from volant.api.streamed import Streamed, accepts, peek
from volant.core.errors import Compacted, Malformed
from volant.core.event import Event
from volant.core.resource import to_wire

_FIRST_EVENT_S = 0.2

LIST = Operation(
    "list_events",
    "List events, or follow them",
    {200: (list_of(Event), Body(one_of_events(Event), sse.MEDIA_TYPE))},
    query=(ABOUT_KIND, ABOUT_NAME, LIMIT),
    problems=(Malformed, Compacted),
    headers=(LAST_EVENT_ID,),
    description=(
        "With `Accept: text/event-stream` those that come from now on, or after the id in `Last-Event-ID`: the id of an event, "
        "or the Volant-Revision of a list."
    ),
)


@get(f"{PREFIX}/events", opt=LIST.opt)
async def list_events(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = read_query(request)
    last_id = sse.read_last_id(request)
    events = intents_of(request.app).events
    if not accepts(request, sse.MEDIA_TYPE):
        found, revision = await events.list(about_kind=asked["about_kind"], about_name=asked["about_name"], limit=asked["limit"])
        return answer_list(found, revision)
    followed = await peek(events.follow(last_id, about_name=asked["about_name"]), _FIRST_EVENT_S)
    source = sse.end_with_problem(_describe(followed, asked["about_kind"]))
    return Streamed(request.app, source, media_type=sse.MEDIA_TYPE, heartbeat=sse.HEARTBEAT, stall_s=sse.STALL_S)


async def _describe(events: AsyncIterator[tuple[int, Event]], about_kind: str | None) -> AsyncIterator[bytes]:
    async for revision, event in events:
        if about_kind in (None, event.spec.about_kind):
            yield sse.format_event(to_wire(event), id_=str(revision) if revision else "")


HANDLERS = (list_events,)
