"""The routes of what a VM's workload says of its own API."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath

from volant.api.answer import PREFIX, answer_json
from volant.api.guest_document import GuestDocuments
from volant.api.guest_operations import GuestOperations, list_operations
from volant.api.operation import Body, Operation, read_query
from volant.api.workload import find_workload
from volant.core.errors import BadAnswer, GuestUnreachable, NotFound, TimedOut, TooLarge, WrongState

_PROBLEMS = (NotFound, WrongState, GuestUnreachable, BadAnswer, TooLarge, TimedOut)
OPENAPI = Operation(
    "read_vm_openapi",
    "Read the OpenAPI document of a VM's workload",
    {200: (Body({"type": "object"}, description="As JSON, whatever the workload wrote it in."),)},
    problems=_PROBLEMS,
    description=(
        "From the path that the manifest's `openapi` names under `workload.base_url`, or from /openapi.json, /openapi.yaml, "
        "/openapi or /v1/openapi. 2 MiB at most; kept for 10 s."
    ),
)
OPERATIONS = Operation(
    "list_vm_operations",
    "List the operations of a VM's workload",
    {200: (Body(GuestOperations),)},
    problems=_PROBLEMS,
)


@get(f"{PREFIX}/vms/{{name:str}}/openapi", opt=OPENAPI.opt)
async def read_vm_openapi(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    return answer_json(await _read(request, name))


@get(f"{PREFIX}/vms/{{name:str}}/operations", opt=OPERATIONS.opt)
async def list_vm_operations(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    return answer_json(GuestOperations(items=list_operations(await _read(request, name))))


async def _read(request: Request[Any, Any, Any], name: str) -> dict[str, Any]:
    read_query(request)
    documents: GuestDocuments = request.app.state.guest_documents
    return await documents.read(request.app, await find_workload(request.app, name))


HANDLERS = (read_vm_openapi, list_vm_operations)
