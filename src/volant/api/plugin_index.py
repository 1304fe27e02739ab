"""The routes of plugin indexes: which there are, and what they know."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_nothing
from volant.api.operation import Body, Operation, Query, read_query, read_record
from volant.core.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Forbidden,
    HostError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    Untrusted,
)
from volant.core.plugin_index import PluginIndex
from volant.intent.plugin_index import IndexUpload

Asked = Request[Any, Any, Any]

_TEXT = {"type": "string"}
_INDEX = {
    "type": "object",
    "description": "An index: where it is read from, whose key has to have signed it, and how many plugins it knows.",
    "properties": {
        "name": _TEXT, "source": _TEXT, "key": _TEXT, "digest": _TEXT, "updated_at": _TEXT, "plugins": {"type": "integer"},
    },
    "required": ["name", "source", "key", "digest", "updated_at", "plugins"],
    "additionalProperties": False,
}  # fmt: skip
_FOUND = {
    "type": "object",
    "description": "A version of a plugin, and the index that knows it. `versions` are all that it knows, the newest first.",
    "properties": {
        "index": _TEXT, "name": _TEXT, "version": _TEXT, "description": _TEXT,
        "labels": {"type": "object", "additionalProperties": _TEXT}, "digest": _TEXT, "source": _TEXT,
        "versions": {"type": "array", "items": _TEXT},
    },
    "required": ["index", "name", "version", "description", "labels", "digest", "source", "versions"],
    "additionalProperties": False,
}  # fmt: skip
_WANTED = {
    "type": "object",
    "description": "An index at https://…, which volantd reads itself; or a file, whose content is sent along and whose source "
    "is its file:/// url where it lies. With key, a minisign public key, it has to be signed.",
    "properties": {"name": _TEXT, "source": _TEXT, "key": _TEXT, "content": _TEXT, "signature": _TEXT},
    "required": ["name", "source"],
    "additionalProperties": False,
}
_PROBLEMS = (InvalidInput, NotFound, Forbidden, Untrusted, TooLarge, Unavailable, HostError, AlreadyExists, Conflict, Exhausted)


def _list_of(schema: dict[str, Any]) -> Body:
    return Body({"type": "object", "properties": {"items": {"type": "array", "items": schema}}, "required": ["items"]})


def _read_text(text: str, name: str) -> str:
    if len(text) > 200:
        raise InvalidInput("that is too long", field=name)
    return text


WORDS = Query("q", "Only those with all of these words.", _read_text, {"type": "string", "maxLength": 200})
VERSION = Query("version", "This version; the newest unless said.", _read_text, {"type": "string", "maxLength": 200})

LIST = Operation("list_plugin_indexes", "List plugin indexes", {200: (_list_of(_INDEX),)})
ADD = Operation(
    "add_plugin_index", "Know a plugin index", {201: (Body(_INDEX),)}, request=Body(_WANTED), problems=_PROBLEMS,
    description="Of the same name and source: its newer content.",
)  # fmt: skip
UPDATE = Operation("update_plugin_index", "Read a plugin index anew", {200: (Body(_INDEX),)}, problems=_PROBLEMS)
REMOVE = Operation(
    "remove_plugin_index",
    "Forget a plugin index",
    {204: (Body(description="It is gone; what was installed from it stays."),)},
    problems=(NotFound, Conflict),
)
SEARCH = Operation("search_plugins", "Search the plugin indexes", {200: (_list_of(_FOUND),)}, query=(WORDS,))
RESOLVE = Operation(
    "resolve_plugin",
    "Ask the indexes where a plugin is",
    {200: (Body(_FOUND),)},
    query=(VERSION,),
    problems=(NotFound, InvalidInput),
)


@get(f"{PREFIX}/plugin-indexes", opt=LIST.opt)
async def list_plugin_indexes(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": [_describe(one) for one in await intents_of(request.app).plugins.indexes.list()]})


@post(f"{PREFIX}/plugin-indexes", opt=ADD.opt)
async def add_plugin_index(request: Asked) -> Response[bytes]:
    read_query(request)
    wanted = await read_record(request, IndexUpload)
    return answer_json(_describe(await intents_of(request.app).plugins.indexes.add(wanted)), 201)


@post(f"{PREFIX}/plugin-indexes/{{name:str}}/update", opt=UPDATE.opt, status_code=200)
async def update_plugin_index(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json(_describe(await intents_of(request.app).plugins.indexes.update(name)))


@delete(f"{PREFIX}/plugin-indexes/{{name:str}}", opt=REMOVE.opt, status_code=202)
async def remove_plugin_index(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    await intents_of(request.app).plugins.indexes.remove(name)
    return answer_nothing()


@get(f"{PREFIX}/plugin-index/search", opt=SEARCH.opt)
async def search_plugins(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    return answer_json({"items": await intents_of(request.app).plugins.indexes.search(asked["q"] or "")})


@get(f"{PREFIX}/plugin-index/plugins/{{name:str}}", opt=RESOLVE.opt)
async def resolve_plugin(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    return answer_json(await intents_of(request.app).plugins.indexes.resolve(name, asked["version"] or ""))


def _describe(index: PluginIndex) -> dict[str, Any]:
    status = index.status
    return {
        "name": index.name, "source": index.spec.source, "key": index.spec.key, "digest": status.digest,
        "updated_at": status.updated_at, "plugins": len(status.plugins),
    }  # fmt: skip


HANDLERS = (
    list_plugin_indexes,
    add_plugin_index,
    update_plugin_index,
    remove_plugin_index,
    search_plugins,
    resolve_plugin,
)
