"""The routes of plugins."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_list, answer_nothing, answer_resource
from volant.api.operation import Body, Operation, read_query
from volant.api.parameters import wait_for
from volant.api.plugin_install import MANIFEST, install_plugin, wait_plugin
from volant.api.schema import list_of
from volant.core.errors import InUse, NotFound, TimedOut
from volant.core.plugin import Plugin

Asked = Request[Any, Any, Any]

_ONE = Body(Plugin, headers=("ETag",))

LIST = Operation("list_plugins", "List plugins", {200: (list_of(Plugin),)})
GET = Operation("get_plugin", "Read one plugin", {200: (_ONE,)}, problems=(NotFound,))
GET_MANIFEST = Operation("get_plugin_manifest", "Read a plugin's manifest", {200: (MANIFEST,)}, problems=(NotFound,))
REMOVE = Operation(
    "remove_plugin",
    "Remove a plugin",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=wait_for("deleted"),
    problems=(NotFound, InUse, TimedOut),
)


@get(f"{PREFIX}/plugins", opt=LIST.opt)
async def list_plugins(request: Asked) -> Response[bytes]:
    read_query(request)
    plugins, revision = await intents_of(request.app).plugins.list()
    return answer_list(plugins, revision)


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
    plugin = await intents_of(request.app).plugins.remove(name)
    if asked["wait"] is None:
        return answer_resource(plugin, 202)
    left = await wait_plugin(request, plugin, asked["timeout"])
    return answer_nothing() if left is None else answer_resource(left, 202)


HANDLERS = (list_plugins, get_plugin, get_plugin_manifest, install_plugin, remove_plugin)
