"""The route that installs a plugin: from a manifest whose files were uploaded, or from where volantd fetches it itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, post

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_resource
from volant.api.operation import Body, Operation, Query, read_json, read_query
from volant.api.parameters import WAIT_DEFAULT_S, read_flag, wait_for
from volant.api.problem import Problem, describe_error
from volant.api.schema import reference
from volant.api.stopping import cancel_all, unless_stopping
from volant.api.streamed import Streamed, accepts, peek
from volant.core.errors import (
    AlreadyExists,
    ChecksumMismatch,
    DiskFull,
    Exhausted,
    HostError,
    InUse,
    InvalidInput,
    Malformed,
    NotFound,
    TimedOut,
    Untrusted,
    VolantError,
)
from volant.core.plugin import Plugin
from volant.core.plugin_source import FetchProgress
from volant.core.resource import split_validation_error, to_wire
from volant.core.trust import SignedManifest
from volant.intent.plugins import InstallHow

Asked = Request[Any, Any, Any]
T = TypeVar("T")

NDJSON = "application/x-ndjson"
HEARTBEAT = b"\n"
FIRST_STEP_S = 20.0
"""How long an answer in lines waits for the plugin to be found, so that what is refused is refused with its own status."""

MANIFEST = Body({"type": "object", "description": "A plugin manifest, version 1: docs/reference/manifest.md."})
_SIGNED = {
    "type": "object",
    "description": "A manifest, and what its publisher signed: the bytes of their manifest.json as text, the same but for the "
    "urls of files, and the content of manifest.json.minisig.",
    "properties": {
        "manifest": MANIFEST.of,
        "signed_manifest": {"type": "string"},
        "signature": {"type": "string"},
    },
    "required": ["manifest", "signed_manifest", "signature"],
    "additionalProperties": False,
}
_SOURCE = {
    "type": "object",
    "description": "Where volantd fetches it: oci://HOST/NAME[:TAG][@DIGEST], or https://HOST/PATH/manifest.json and the sha256 "
    "of that manifest as the checksum. A signature is taken from there, too. With name, and version, anything else there "
    "is refused.",
    "properties": {
        "source": {"type": "string"},
        "checksum": {"type": "string"},
        "name": {"type": "string"},
        "version": {"type": "string"},
    },
    "required": ["source"],
    "additionalProperties": False,
}
_PROGRESS = {
    "type": "object",
    "description": "How much of a file has come; size_bytes is 0 while nobody has said it.",
    "properties": {"file": {"type": "string"}, "done_bytes": {"type": "integer"}, "size_bytes": {"type": "integer"}},
    "required": ["file", "done_bytes", "size_bytes"],
    "additionalProperties": False,
}
_INSTALLED = {
    "type": "object",
    "description": "The last line.",
    "properties": {"plugin": reference(Plugin), "created": {"type": "boolean"}},
    "required": ["plugin", "created"],
    "additionalProperties": False,
}
_LINES = Body(
    {"anyOf": [_PROGRESS, _INSTALLED, reference(Problem)]},
    NDJSON,
    "Of a source, when Accept asks for it: one document a line, the last the plugin or a problem.",
)

_FLAG = {"type": "string", "enum": ["true", "false", "1", "0", ""]}
DEFAULT = Query("default", "Whether the plugin's name is to mean this version; it is unless said.", read_flag, _FLAG)
REPLACE = Query(
    "replace", "Take the place of another content of the same version, when nothing was made from that.", read_flag, _FLAG
)

INSTALL = Operation(
    "install_plugin",
    "Install a plugin from its manifest, or from where it lies",
    {
        200: (Body(Plugin, headers=("ETag",)), _LINES),
        201: (Body(Plugin, headers=("ETag", "Location")),),
    },
    query=(*wait_for("ready"), DEFAULT, REPLACE),
    request=Body({"anyOf": [MANIFEST.of, _SIGNED, _SOURCE]}),
    problems=(AlreadyExists, InUse, Exhausted, TimedOut, Untrusted, NotFound, ChecksumMismatch, DiskFull, HostError),
    description="The body is a manifest, a manifest with its signature, or a source. The files that a manifest names are "
    "uploaded first; those of a source are fetched by volantd unless they are stored, until the client goes. 200 when the very "
    "same one was installed already. Another version comes beside those that are there.",
)


class SignedInstall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    manifest: dict[str, Any]
    signed_manifest: str
    signature: str


class SourceInstall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    checksum: str = ""
    name: str = ""
    version: str = ""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    plugin: Plugin
    created: bool


@post(f"{PREFIX}/plugins", opt=INSTALL.opt)
async def install_plugin(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    how = InstallHow(as_default=asked["default"] is not False, replace=bool(asked["replace"]))
    document = await read_json(request)
    # No manifest has a field of either name.
    if isinstance(document, dict) and "source" in document:
        steps = _install_from(request, _convert(document, SourceInstall), asked, how)
        if accepts(request, NDJSON):
            begun = await peek(steps, FIRST_STEP_S)
            return Streamed(request.app, _as_ndjson(begun), media_type=NDJSON, heartbeat=HEARTBEAT)
        installed = await unless_gone(request, _run_to_end(steps))
    else:
        signed = None
        if isinstance(document, dict) and "manifest" in document:
            asked_signed = _convert(document, SignedInstall)
            document = asked_signed.manifest
            signed = SignedManifest(manifest=asked_signed.signed_manifest, signature=asked_signed.signature)
        plugin, created = await intents_of(request.app).plugins.install(document, signed, how=how)
        installed = Installed(plugin=await _settle(request, plugin, asked), created=created)
    return answer_resource(installed.plugin, 201 if installed.created else 200)


async def wait_plugin(request: Asked, plugin: Plugin, timeout_s: float | None) -> Plugin | None:
    waiting = intents_of(request.app).plugins.wait(plugin, timeout_s=timeout_s or WAIT_DEFAULT_S)
    return await unless_stopping(request.app, waiting)


async def unless_gone(request: Asked, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, cancelled when the client goes. Raises Malformed then, and Unavailable when the server stops."""
    working = asyncio.create_task(unless_stopping(request.app, work))
    gone = asyncio.create_task(_wait_until_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Malformed("the client went before the plugin was installed")
        return working.result()
    finally:
        await cancel_all(working, gone)


async def _install_from(
    request: Asked, wanted: SourceInstall, asked: dict[str, Any], how: InstallHow
) -> AsyncIterator[FetchProgress | Installed]:
    """How far each file is, as often as anybody looks, and at last the plugin."""
    latest: dict[str, FetchProgress] = {}
    changed = asyncio.Event()

    def report(progress: FetchProgress) -> None:
        latest[progress.file] = progress
        changed.set()

    async def work() -> Installed:
        try:
            plugins = intents_of(request.app).plugins
            wants = msgspec.structs.replace(how, name=wanted.name, version=wanted.version)
            plugin, created = await plugins.install_from(wanted.source, wanted.checksum, report=report, how=wants)
            return Installed(plugin=await _settle(request, plugin, asked), created=created)
        finally:
            changed.set()

    working = asyncio.create_task(work())
    try:
        while not working.done():
            await changed.wait()
            changed.clear()
            told = list(latest.values())
            latest.clear()
            for progress in told:
                yield progress
        yield working.result()
    finally:
        await cancel_all(working)


async def _settle(request: Asked, plugin: Plugin, asked: dict[str, Any]) -> Plugin:
    if asked["wait"] is None:
        return plugin
    waited = await wait_plugin(request, plugin, asked["timeout"])
    if waited is None:
        raise NotFound(f"the plugin {plugin.name!r} was removed in the meantime")
    return waited


async def _run_to_end(steps: AsyncIterator[FetchProgress | Installed]) -> Installed:
    installed: Installed | None = None
    async for step in steps:
        installed = step if isinstance(step, Installed) else None
    assert installed is not None  # it is the last, or an error came instead
    return installed


async def _as_ndjson(steps: AsyncIterator[FetchProgress | Installed]) -> AsyncIterator[bytes]:
    try:
        async for step in steps:
            line = {"plugin": to_wire(step.plugin), "created": step.created} if isinstance(step, Installed) else step
            yield msgspec.json.encode(line) + b"\n"
    except VolantError as error:
        yield msgspec.json.encode(describe_error(error)) + b"\n"


async def _wait_until_gone(request: Asked) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _convert(document: object, cls: type[T]) -> T:
    try:
        return msgspec.convert(document, cls)
    except msgspec.ValidationError as error:
        said, field = split_validation_error(error)
        raise InvalidInput(said, field=field) from error
