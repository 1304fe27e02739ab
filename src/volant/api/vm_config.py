"""The routes of a VM's configuration: whole, in part, as it was, and what differs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec
from litestar import Request, Response, get, patch, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_resource, format_etag
from volant.api.author import author_of
from volant.api.config_records import RollbackWanted, VMConfig, VMDiff, VMVersion, VMVersions
from volant.api.headers import REASON
from volant.api.operation import JSON, Body, Operation, Query, read_if_match, read_json, read_query, read_record
from volant.api.parameters import DRY_RUN, read_count
from volant.api.schema import WANTED
from volant.api.waiting import as_precondition
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    StaleRevision,
    TooLarge,
    WrongMediaType,
    WrongState,
)
from volant.core.patch import json_patch, merge_patch
from volant.core.resource import from_wire
from volant.core.vm import VM
from volant.core.vm_revision import VMRevision
from volant.intent.configuration import EDITABLE, Edit

Asked = Request[Any, Any, Any]

MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"

_ONE = Body(VM, headers=("ETag",))
_CONFIG = Body(VMConfig, headers=("ETag",))
_PATCH = {"type": "object", "description": "Members to be changed (RFC 7396); null leaves one to the plugin."}
_PROBLEMS = (NotFound, InvalidInput, AlreadyExists, WrongState, StaleRevision)
_PATCH_PROBLEMS = (*_PROBLEMS, Malformed, WrongMediaType, TooLarge)
_NOTE = "A change is a version of its own, with who made it and what the header `Volant-Reason` says."

_LIMIT = Query("limit", "The newest so many.", read_count, {"type": "integer", "minimum": 0})
_FROM = Query("from", "A version; the one before `to` unless said.", read_count, {"type": "integer", "minimum": 0})
_TO = Query("to", "A version; the one that it is unless said.", read_count, {"type": "integer", "minimum": 0})

REPLACE = Operation(
    "replace_vm",
    "Configure a VM as a whole",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[VM]),
    problems=_PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description=f"What was read may be edited and sent back. What it leaves open is as the plugin says. {_NOTE}",
)
EDIT = Operation(
    "edit_vm",
    "Change a VM's configuration in part",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(_PATCH, MERGE_PATCH),
    problems=_PATCH_PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description=f"A merge patch (RFC 7396), or `{JSON_PATCH}` (RFC 6902) of the configuration. {_NOTE}",
)
GET_CONFIG = Operation("get_vm_config", "Read a VM's configuration", {200: (_CONFIG,)}, problems=(NotFound,))
EDIT_CONFIG = Operation(
    "edit_vm_config",
    "Change a VM's configuration, and read it",
    {200: (_CONFIG,)},
    query=(DRY_RUN,),
    request=Body(_PATCH, MERGE_PATCH),
    problems=_PATCH_PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description="As edit_vm.",
)
HISTORY = Operation(
    "list_vm_versions",
    "List the versions of a VM's configuration",
    {200: (Body(VMVersions),)},
    query=(_LIMIT,),
    problems=(NotFound,),
    description="Newest first. The newest 64 are kept, and go with the VM.",
)
GET_VERSION = Operation(
    "get_vm_version", "Read one version of a VM's configuration", {200: (Body(VMVersion),)}, problems=(NotFound,)
)
DIFF = Operation(
    "diff_vm_versions",
    "Compare two versions of a VM's configuration",
    {200: (Body(VMDiff),)},
    query=(_FROM, _TO),
    problems=(NotFound,),
    description="`effect` says what each difference needs: `live`, `applied`, `restart`, `stopped`.",
)
ROLLBACK = Operation(
    "rollback_vm",
    "Configure a VM as it was in an earlier version",
    {200: (_CONFIG,)},
    query=(DRY_RUN,),
    request=Body(RollbackWanted),
    problems=_PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description="The result is a new version. What steers the run (power, restarts, snapshots) stays.",
)


@put(f"{PREFIX}/vms/{{name:str}}", opt=REPLACE.opt)
async def replace_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = from_wire(VM, await read_json(request))
    changing = intents_of(request.app).configuration.replace(
        name, wanted, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return answer_resource(await _changed(changing, expected))


@patch(f"{PREFIX}/vms/{{name:str}}", opt=EDIT.opt)
async def edit_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return answer_resource(await _edit(request, name))


@get(f"{PREFIX}/vms/{{name:str}}/config", opt=GET_CONFIG.opt)
async def get_vm_config(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return await _answer_config(request, name)


@patch(f"{PREFIX}/vms/{{name:str}}/config", opt=EDIT_CONFIG.opt)
async def edit_vm_config(request: Asked, name: FromPath[str]) -> Response[bytes]:
    vm = await _edit(request, name)
    return await _answer_config(request, name, vm)


@get(f"{PREFIX}/vms/{{name:str}}/config/history", opt=HISTORY.opt)
async def list_vm_versions(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    versions = await intents_of(request.app).configuration.history(name)
    return answer_json(VMVersions(items=tuple(map(describe_version, versions[: asked["limit"]]))))


@get(f"{PREFIX}/vms/{{name:str}}/config/history/{{version:str}}", opt=GET_VERSION.opt)
async def get_vm_version(request: Asked, name: FromPath[str], version: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json(
        describe_version(await intents_of(request.app).configuration.version(name, read_count(version, "version")))
    )


@get(f"{PREFIX}/vms/{{name:str}}/config/diff", opt=DIFF.opt)
async def diff_vm_versions(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    before, after, differences = await intents_of(request.app).configuration.diff(name, asked["from"], asked["to"])
    return answer_json(VMDiff(before=before, after=after, differences=differences))


@post(f"{PREFIX}/vms/{{name:str}}/config/rollback", opt=ROLLBACK.opt, status_code=200)
async def rollback_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = await read_record(request, RollbackWanted)
    changing = intents_of(request.app).configuration.rollback(
        name, wanted.version, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return await _answer_config(request, name, await _changed(changing, expected))


async def _edit(request: Asked, name: str) -> VM:
    asked = read_query(request)
    expected = read_if_match(request)
    edit = await _read_patch(request)
    changing = intents_of(request.app).configuration.edit(
        name, edit, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return await _changed(changing, expected)


async def _changed(changing: Awaitable[VM], expected: int | None) -> VM:
    try:
        return await changing
    except StaleRevision as error:
        raise as_precondition(error, expected) from error


async def _read_patch(request: Asked) -> Edit:
    """Raises WrongMediaType, Malformed, InvalidInput for a patch that cannot be of any VM."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, MERGE_PATCH, JSON_PATCH):
        raise WrongMediaType("this takes a patch", hint=f"send it with Content-Type: {MERGE_PATCH}, or {JSON_PATCH}")
    try:
        document = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if media_type == JSON_PATCH:
        return lambda before: json_patch(before, document)
    if not isinstance(document, dict):
        raise InvalidInput("a merge patch of a VM is one object (RFC 7396)")
    return lambda before: _merge(before, document)


def _merge(before: dict[str, Any], change: dict[str, Any]) -> Any:
    # Null would take an unknown field away without a word.
    unknown = {field: True for field, value in change.items() if value is None and field not in EDITABLE}
    return {**merge_patch(before, change), **unknown}


async def _answer_config(request: Asked, name: str, planned: VM | None = None) -> Response[bytes]:
    """The configuration as it is, or, of a VM that was not written, as it would be."""
    configuration = intents_of(request.app).configuration
    vm, version = await configuration.read(name)
    if planned is not None and planned.meta.generation > vm.meta.generation:
        vm, version = planned, configuration.preview(planned)
    config = VMConfig(version=version.spec.number, updated_at=version.spec.at, config=version.spec.config)
    return answer_json(config, headers={"etag": format_etag(vm)})


def describe_version(version: VMRevision) -> VMVersion:
    spec = version.spec
    return VMVersion(
        version=spec.number, updated_at=spec.at, by=spec.by, reason=spec.reason, changed=spec.changed, config=spec.config
    )


HANDLERS = (
    replace_vm,
    edit_vm,
    get_vm_config,
    edit_vm_config,
    list_vm_versions,
    get_vm_version,
    diff_vm_versions,
    rollback_vm,
)
