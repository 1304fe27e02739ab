"""The routes of actions: what a plugin's manifest says one may ask of its workload."""

from __future__ import annotations

from datetime import date
from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath

from volant.api.answer import PREFIX, answer_json
from volant.api.deprecation import Deprecated
from volant.api.guest_operations import NamedAction, NamedActions
from volant.api.operation import Body, Operation, Query, read_query
from volant.api.parameters import read_timeout
from volant.api.relay import FIRST_BYTE_S, Call, Relayed
from volant.api.vm_agent import read_caller
from volant.api.workload import find_manifest, find_workload
from volant.core.errors import BadAnswer, GuestUnreachable, Malformed, NotFound, TimedOut, WrongState

TIMEOUT = Query(
    "timeout",
    "How long the workload may take to begin its answer; what the manifest says, or 60s.",
    read_timeout,
    {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h)$"},
)


LIST = Operation(
    "list_vm_actions",
    "List the actions of a VM's workload",
    {200: (Body(NamedActions),)},
    problems=(NotFound,),
)
_CALLED: dict[int, tuple[Body, ...]] = {
    200: (Body(None, "application/octet-stream", "The workload's own answer, whatever its status and its kind."),)
}
_PROBLEMS = (Malformed, NotFound, WrongState, GuestUnreachable, BadAnswer, TimedOut)
CALL = Operation(
    "call_vm_action",
    "Ask an action of a VM's workload",
    _CALLED,
    query=(TIMEOUT,),
    problems=_PROBLEMS,
    takes_key=False,
    description="The body, if there is one, is passed on as it is, by the method and to the path that the manifest names.",
)
CALL_OF_PLUGIN = Operation(
    "call_vm_plugin_action",
    "Ask an action of a VM's workload, when the VM is made from that plugin",
    _CALLED,
    query=(TIMEOUT,),
    problems=_PROBLEMS,
    takes_key=False,
    deprecated=Deprecated(since=date(2026, 12, 1), instead="/openapi.json#/paths/~1api~1v1~1vms~1{name}~1actions~1{action}"),
)


@get(f"{PREFIX}/vms/{{name:str}}/actions", opt=LIST.opt)
async def list_vm_actions(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    _, manifest = await find_manifest(request.app, name)
    items = [
        NamedAction(name=action, method=one.method, path=one.path, description=one.description, timeout_ms=one.timeout_ms)
        for action, one in sorted(manifest.actions.items())
    ]
    return answer_json(NamedActions(items=items))


@post(f"{PREFIX}/vms/{{name:str}}/actions/{{action:str}}", opt=CALL.opt)
async def call_vm_action(request: Request[Any, Any, Any], name: FromPath[str], action: FromPath[str]) -> Response[bytes]:
    return await _call(request, name, action, None)


@post(f"{PREFIX}/vms/{{name:str}}/actions/{{plugin:str}}/{{action:str}}", opt=CALL_OF_PLUGIN.opt)
async def call_vm_plugin_action(
    request: Request[Any, Any, Any], name: FromPath[str], plugin: FromPath[str], action: FromPath[str]
) -> Response[bytes]:
    return await _call(request, name, action, plugin)


async def _call(request: Request[Any, Any, Any], name: str, action: str, plugin: str | None) -> Response[bytes]:
    asked = read_query(request)
    vm, manifest = await find_manifest(request.app, name)
    if plugin is not None and plugin not in (manifest.name, vm.spec.plugin):
        raise WrongState(f"the VM {name!r} is made from {vm.spec.plugin!r}, not from {plugin[:80]!r}")
    wanted = manifest.actions.get(action)
    if wanted is None:
        known = ", ".join(sorted(manifest.actions)) or "none"
        raise NotFound(f"the plugin {manifest.name!r} has no action {action[:80]!r}", hint=f"it has: {known[:200]}")
    workload = await find_workload(request.app, name)
    own_s = wanted.timeout_ms / 1000 or FIRST_BYTE_S
    call = Call(
        workload=workload,
        caller=read_caller(request, name),
        method=wanted.method.upper(),
        target=workload.target_of(wanted.path),
        first_byte_s=asked["timeout"] or own_s,
    )
    return Relayed(request.app, call)


HANDLERS = (list_vm_actions, call_vm_action, call_vm_plugin_action)
