"""The routes of a plugin's versions: which one its name means, which may be used, what needs them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_resource
from volant.api.operation import Body, Operation, read_query, read_record
from volant.api.schema import list_of
from volant.core.errors import Conflict, InvalidInput, NotFound, WrongState
from volant.core.plugin import Plugin
from volant.core.resource import to_wire

Asked = Request[Any, Any, Any]

_ONE = Body(Plugin, headers=("ETag",))
_NAMES = {"type": "array", "items": {"type": "string"}}
_DEFAULT = {
    "type": "object",
    "description": "The version that the plugin's name is to mean.",
    "properties": {"version": {"type": "string", "maxLength": 128}},
    "required": ["version"],
    "additionalProperties": False,
}
_ENABLED = {
    "type": "object",
    "description": "Whether new VMs may be made from it.",
    "properties": {"enabled": {"type": "boolean"}},
    "required": ["enabled"],
    "additionalProperties": False,
}
_USERS = {
    "type": "object",
    "description": "The names of what needs it; the clones of its pool go by themselves.",
    "properties": {"vms": _NAMES, "snapshots": _NAMES, "deployments": _NAMES, "jobs": _NAMES, "cron_jobs": _NAMES},
    "required": ["vms", "snapshots", "deployments", "jobs", "cron_jobs"],
    "additionalProperties": False,
}

VERSIONS = Operation(
    "list_plugin_versions", "List the versions of a plugin, the default first", {200: (list_of(Plugin),)}, problems=(NotFound,)
)
SET_DEFAULT = Operation(
    "set_plugin_default",
    "Say which version a plugin's name means",
    {200: (_ONE,)},
    request=Body(_DEFAULT),
    problems=(NotFound, InvalidInput, WrongState, Conflict),
    description="VMs that are made later are made from it. Those there are stay on the version that they were made from.",
)
ROLL_BACK = Operation(
    "roll_back_plugin",
    "Have a plugin's name mean the version again that it meant before",
    {200: (_ONE,)},
    problems=(NotFound, WrongState, Conflict),
)
SET_ENABLED = Operation(
    "set_plugin_enabled",
    "Allow or refuse new VMs of a plugin",
    {200: (list_of(Plugin),)},
    request=Body(_ENABLED),
    problems=(NotFound, InvalidInput, Conflict),
    description="Of one version (`nginx@1.2.0`), or of all (`nginx`). It counts at once; VMs there are stay, and may restart. "
    "Answers with the versions that it was about.",
)
USERS = Operation(
    "get_plugin_users",
    "Read what needs a plugin",
    {200: (Body(_USERS),)},
    problems=(NotFound, InvalidInput),
    description="One version (`nginx@1.2.0`), or any (`nginx`): what a forced removal would delete. VMs that go with a "
    "deployment or a job of the list are not in it.",
)

_FILE = {
    "type": "object",
    "description": "A file of a plugin; `versions` are those of this plugin that it is in.",
    "properties": {
        "role": {"type": "string"},
        "digest": {"type": "string"},
        "size_bytes": {"type": "integer"},
        "state": {"type": "string", "enum": ["present", "missing", "damaged", "unchecked"]},
        "versions": _NAMES,
    },
    "required": ["role", "digest", "size_bytes", "state", "versions"],
    "additionalProperties": False,
}
ARTIFACTS = Operation(
    "list_plugin_artifacts",
    "List the files of a plugin",
    {200: (Body({"type": "object", "properties": {"items": {"type": "array", "items": _FILE}}, "required": ["items"]}),)},
    problems=(NotFound, InvalidInput),
    description="Of one version (`nginx@1.2.0`), or of all (`nginx`).",
)


class DefaultWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: str


class EnabledWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool


@get(f"{PREFIX}/plugins/{{name:str}}/versions", opt=VERSIONS.opt)
async def list_plugin_versions(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": [to_wire(one) for one in await intents_of(request.app).plugins.versions.list(name)]})


@put(f"{PREFIX}/plugins/{{name:str}}/default", opt=SET_DEFAULT.opt)
async def set_plugin_default(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    wanted = await read_record(request, DefaultWanted)
    return answer_resource(await intents_of(request.app).plugins.versions.set_default(name, wanted.version))


@post(f"{PREFIX}/plugins/{{name:str}}/rollback", opt=ROLL_BACK.opt, status_code=200)
async def roll_back_plugin(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).plugins.versions.roll_back(name))


@post(f"{PREFIX}/plugins/{{name:str}}/enabled", opt=SET_ENABLED.opt, status_code=200)
async def set_plugin_enabled(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    wanted = await read_record(request, EnabledWanted)
    changed = await intents_of(request.app).plugins.versions.set_enabled(name, wanted.enabled)
    return answer_json({"items": [to_wire(one) for one in changed]})


@get(f"{PREFIX}/plugins/{{name:str}}/users", opt=USERS.opt)
async def get_plugin_users(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json(await intents_of(request.app).plugins.removal.find_users(name))


@get(f"{PREFIX}/plugins/{{name:str}}/artifacts", opt=ARTIFACTS.opt)
async def list_plugin_artifacts(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": await intents_of(request.app).plugins.versions.list_files(name)})


HANDLERS = (
    list_plugin_versions,
    set_plugin_default,
    roll_back_plugin,
    set_plugin_enabled,
    get_plugin_users,
    list_plugin_artifacts,
)
