"""The routes of plugins."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_nothing, answer_resource
from volant.api.operation import Body, Operation, Query, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import WAIT_DEFAULT_S, read_flag, wait_for
from volant.api.plugin_install import MANIFEST, install_plugin
from volant.api.stopping import unless_stopping
from volant.core.errors import InUse, InvalidInput, NotFound, TimedOut
from volant.core.plugin import Plugin

Asked = Request[Any, Any, Any]

_ONE = Body(Plugin, headers=("ETag",))
WITH_USERS = Query(
    "force",
    "With all that needs it, which is deleted first.",
    read_flag,
    {"type": "string", "enum": ["true", "false", "1", "0", ""]},
)

LIST = Operation(
    "list_plugins",
    "List plugins, each as its default version",
    {200: (page_of(Plugin),)},
    query=(
        SELECTOR,
        SEARCH,
        only_with("phase", "phase"),
        only_with("enabled", "answer to whether VMs may be made from it"),
        sort_by("name", "created_at", "phase", "version", "vms"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
    ),
    problems=(InvalidInput,),
)
GET = Operation(
    "get_plugin",
    "Read one plugin",
    {200: (_ONE,)},
    problems=(NotFound,),
    description="`nginx` is its default version, `nginx@1.2.0` that one.",
)
GET_MANIFEST = Operation("get_plugin_manifest", "Read a plugin's manifest", {200: (MANIFEST,)}, problems=(NotFound,))
REMOVE = Operation(
    "remove_plugin",
    "Remove a plugin",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=(*wait_for("deleted"), WITH_USERS),
    problems=(NotFound, InvalidInput, InUse, TimedOut),
    description="One version (`nginx@1.2.0`), or all (`nginx`). Refused while VMs, snapshots, deployments, jobs or "
    "schedules need one of them, unless with force, which deletes those first. The default cannot go alone while there are "
    "other versions.",
)


@get(f"{PREFIX}/plugins", opt=LIST.opt)
async def list_plugins(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    page = await intents_of(request.app).plugins.list_page(read_ask(asked, phase="phase", enabled="enabled"))
    return answer_page(request, page)


@get(f"{PREFIX}/plugins/{{name:str}}", opt=GET.opt)
async def get_plugin(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).plugins.get(name))


@get(f"{PREFIX}/plugins/{{name:str}}/manifest", opt=GET_MANIFEST.opt)
async def get_plugin_manifest(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json((await intents_of(request.app).plugins.get(name)).spec.manifest)


@delete(f"{PREFIX}/plugins/{{name:str}}", opt=REMOVE.opt, status_code=202)
async def remove_plugin(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    plugins = intents_of(request.app).plugins
    plugin = await plugins.remove(name, force=bool(asked["force"]))
    if asked["wait"] is None:
        return answer_resource(plugin, 202)
    await unless_stopping(request.app, plugins.wait_gone(name, timeout_s=asked["timeout"] or WAIT_DEFAULT_S))
    return answer_nothing()


HANDLERS = (list_plugins, get_plugin, get_plugin_manifest, install_plugin, remove_plugin)
