"""The routes of the controllers' queues, and of who leads."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, Query, read_query
from volant.api.parameters import read_count
from volant.api.schema import list_of
from volant.core.errors import NotFound
from volant.core.leader import LeaderStatus
from volant.core.queue import Queue, QueueDetail
from volant.intent.queues import KEYS_MAX, KEYS_TOLD, QueueIntent

Asked = Request[Any, Any, Any]

LIST = Operation(
    "list_queues",
    "List the controllers' queues, and what their passes cost",
    {200: (list_of(Queue),)},
    description="Of this volantd, since it started. Those of the leader do nothing on a node that does not lead.",
)
GET = Operation(
    "get_queue",
    "Read what waits for a controller, and why",
    {200: (Body(QueueDetail),)},
    query=(
        Query(
            "limit",
            f"How many keys are told, at most {KEYS_MAX}.",
            read_count,
            {"type": "integer", "minimum": 0, "maximum": KEYS_MAX, "default": KEYS_TOLD},
        ),
    ),
    problems=(NotFound,),
)
LEADER = Operation("get_leader", "Read which node leads", {200: (Body(LeaderStatus),)})


def _queues_of(request: Asked) -> QueueIntent:
    queues = intents_of(request.app).queues
    if queues is None:
        raise NotFound("there are no controllers here")
    return queues


@get(f"{PREFIX}/system/queues", opt=LIST.opt)
async def list_queues(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": _queues_of(request).list()})


@get(f"{PREFIX}/system/queues/{{name:str}}", opt=GET.opt)
async def get_queue(request: Asked, name: FromPath[str]) -> Response[bytes]:
    limit = read_query(request)["limit"]
    return answer_json(_queues_of(request).get(name, KEYS_TOLD if limit is None else min(limit, KEYS_MAX)))


@get(f"{PREFIX}/system/leader", opt=LEADER.opt)
async def get_leader(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(await _queues_of(request).leader())


HANDLERS = (list_queues, get_queue, get_leader)
