"""The routes of networks."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_list, answer_nothing, answer_resource
from volant.api.operation import Body, Operation, read_if_match, read_json, read_query
from volant.api.parameters import LABELS, WAIT_DEFAULT_S, wait_for
from volant.api.schema import WANTED, list_of
from volant.api.stopping import unless_stopping
from volant.api.waiting import as_precondition
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.network import Network
from volant.core.resource import from_wire

Asked = Request[Any, Any, Any]

_ONE = Body(Network, headers=("ETag",))

LIST = Operation("list_networks", "List networks", {200: (list_of(Network),)}, query=(LABELS,))
GET = Operation("get_network", "Read one network", {200: (_ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_network",
    "Make a network",
    {201: (Body(Network, headers=("ETag", "Location")),)},
    query=wait_for("ready"),
    request=Body(WANTED[Network]),
    problems=(InvalidInput, AlreadyExists, TimedOut),
    description=(
        "A bridge of Volant's own with `subnet`, or with `dhcp` `external` one that somebody else made and gives addresses on. "
        "201 means written down. With wait=ready it is answered when it is there or has failed: look at status."
    ),
)
DELETE = Operation(
    "delete_network",
    "Delete a network",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=wait_for("deleted"),
    problems=(NotFound, InUse, WrongState, TimedOut),
    if_match=True,
    description="Refused while a VM has a card in it, and for the default network.",
)


@get(f"{PREFIX}/networks", opt=LIST.opt)
async def list_networks(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    networks, revision = await intents_of(request.app).networks.list(labels=asked["labels"])
    return answer_list(networks, revision)


@get(f"{PREFIX}/networks/{{name:str}}", opt=GET.opt)
async def get_network(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).networks.get(name))


@post(f"{PREFIX}/networks", opt=CREATE.opt)
async def create_network(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    network = await intents_of(request.app).networks.create(from_wire(Network, await read_json(request)))
    if asked["wait"] is not None:
        made = await _wait(request, network, asked["timeout"])
        if made is None:
            raise NotFound(f"the network {network.name!r} was deleted in the meantime")
        network = made
    return answer_resource(network, 201)


@delete(f"{PREFIX}/networks/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_network(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    try:
        network = await intents_of(request.app).networks.delete(name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(network, 202)
    left = await _wait(request, network, asked["timeout"])
    return answer_nothing() if left is None else answer_resource(left, 202)


async def _wait(request: Asked, network: Network, timeout_s: float | None) -> Network | None:
    waiting = intents_of(request.app).networks.wait(network, timeout_s=timeout_s or WAIT_DEFAULT_S)
    return await unless_stopping(request.app, waiting)


HANDLERS = (list_networks, get_network, create_network, delete_network)
