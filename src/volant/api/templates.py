"""The routes of templates."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response, get, post

from volant.api.access import door_of
from volant.api.answer import PREFIX, answer_json
from volant.api.operation import Body, Operation, read_query, read_record
from volant.api.schema import TemplateWanted, list_of
from volant.api.stopping import unless_stopping
from volant.core.errors import HostError, InvalidInput, NotFound, TimedOut
from volant.core.template import Template
from volant.node.door import TemplateDoor

Asked = Request[Any, Any, Any]

BUILD_LIMIT_S = 900.0
"""A build boots a guest and may wait until its workload is healthy; under emulation that takes minutes."""

LIST = Operation("list_templates", "List the templates of this host, those used last first", {200: (list_of(Template),)})
BUILD = Operation(
    "build_template",
    "Make the template that VMs of a plugin start from",
    {200: (Body(Template),)},
    request=Body(TemplateWanted),
    problems=(NotFound, InvalidInput, HostError, TimedOut),
    description=f"Answered when it is there, at once when it was; that may take minutes, {BUILD_LIMIT_S:g} s at most.",
)
PRUNE = Operation(
    "prune_templates",
    "Remove every template that nothing stands on",
    {200: (list_of(Template),)},
    description="Answers with those that went. The next VM of their kind boots, and leaves a new one behind.",
)


@get(f"{PREFIX}/templates", opt=LIST.opt)
async def list_templates(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": await door_of(request.app).templates.list_templates()})


@post(f"{PREFIX}/templates", opt=BUILD.opt, status_code=200)
async def build_template(request: Asked) -> Response[bytes]:
    read_query(request)
    wanted = await read_record(request, TemplateWanted)
    return answer_json(await unless_stopping(request.app, _build(door_of(request.app).templates, wanted)))


@post(f"{PREFIX}/templates/prune", opt=PRUNE.opt, status_code=200)
async def prune_templates(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": await door_of(request.app).templates.prune_templates()})


async def _build(templates: TemplateDoor, wanted: TemplateWanted) -> Template:
    try:
        async with asyncio.timeout(BUILD_LIMIT_S):
            return await templates.build_template(wanted.plugin, cpu_cores=wanted.cpu_cores, memory_mb=wanted.memory_mb)
    except TimeoutError:
        raise TimedOut(
            f"the template of {wanted.plugin!r} was not made within {BUILD_LIMIT_S:g} s",
            hint="boot one to see why: volar vms create NAME --start cold --plugin " + wanted.plugin,
        ) from None


HANDLERS = (list_templates, build_template, prune_templates)
