"""The routes of a deployment's size, its rollout and its revisions."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.author import author_of
from volant.api.deployment_records import DeploymentVersion, DeploymentVersions, ScaleWanted, UndoWanted
from volant.api.deployments import CHANGED, ONE, PROBLEMS, WAITS, answer_changed
from volant.api.headers import REASON
from volant.api.operation import Body, Operation, read_if_match, read_query, read_record
from volant.api.parameters import DRY_RUN, read_count
from volant.core.errors import InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.intent.deployment_history import RevisionEntry

Asked = Request[Any, Any, Any]

SCALE = Operation(
    "scale_deployment",
    "Say how many replicas there are to be",
    {200: (CHANGED,)},
    query=(*WAITS, DRY_RUN),
    request=Body(ScaleWanted),
    problems=PROBLEMS,
    if_match=True,
    description="Refused for one that is scaled by itself: change `autoscale`.",
)
PAUSE = Operation(
    "pause_deployment",
    "Roll nothing out",
    {200: (ONE,)},
    problems=(NotFound, WrongState, StaleRevision),
    if_match=True,
    description="Until it is resumed. Healing and scaling go on.",
)
RESUME = Operation(
    "resume_deployment",
    "Go on with a rollout",
    {200: (ONE,)},
    query=WAITS,
    problems=(NotFound, WrongState, StaleRevision, TimedOut),
    if_match=True,
    description="That was paused, or that waits for somebody: a step of a canary, or the switch of a blue-green.",
)
RESTART = Operation(
    "restart_deployment",
    "Replace the VMs by new ones of the same description",
    {200: (CHANGED,)},
    query=(*WAITS, DRY_RUN),
    problems=PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description="As its strategy says. It is a new revision.",
)
UNDO = Operation(
    "undo_deployment",
    "Have replicas be as they were in an earlier revision",
    {200: (CHANGED,)},
    query=(*WAITS, DRY_RUN),
    request=Body(UndoWanted),
    problems=PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description="The one before unless said. The result is a new revision; VMs that are of the old one stay.",
)
REVISIONS = Operation(
    "list_deployment_revisions",
    "List the revisions of a deployment",
    {200: (Body(DeploymentVersions),)},
    problems=(NotFound,),
    description="Newest first. As many as `history_limit` says are kept, and those that are in use.",
)
REVISION = Operation(
    "get_deployment_revision",
    "Read one revision of a deployment",
    {200: (Body(DeploymentVersion),)},
    problems=(NotFound, InvalidInput),
)


@post(f"{PREFIX}/deployments/{{name:str}}/scale", opt=SCALE.opt, status_code=200)
async def scale_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = await read_record(request, ScaleWanted)
    changing = intents_of(request.app).deployments.scale(
        name, wanted.replicas, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return await answer_changed(request, changing, expected, asked)


@post(f"{PREFIX}/deployments/{{name:str}}/pause", opt=PAUSE.opt, status_code=200)
async def pause_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    expected = read_if_match(request)
    changing = intents_of(request.app).deployments.pause(name, expected_generation=expected)
    return await answer_changed(request, changing, expected, {"wait": None})


@post(f"{PREFIX}/deployments/{{name:str}}/resume", opt=RESUME.opt, status_code=200)
async def resume_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    changing = intents_of(request.app).deployments.resume(name, expected_generation=expected)
    return await answer_changed(request, changing, expected, asked)


@post(f"{PREFIX}/deployments/{{name:str}}/restart", opt=RESTART.opt, status_code=200)
async def restart_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    changing = intents_of(request.app).deployments.restart(
        name, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return await answer_changed(request, changing, expected, asked)


@post(f"{PREFIX}/deployments/{{name:str}}/undo", opt=UNDO.opt, status_code=200)
async def undo_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = await read_record(request, UndoWanted)
    changing = intents_of(request.app).deployments.undo(
        name, wanted.revision, expected_generation=expected, author=author_of(request), dry_run=bool(asked["dry_run"])
    )
    return await answer_changed(request, changing, expected, asked)


@get(f"{PREFIX}/deployments/{{name:str}}/revisions", opt=REVISIONS.opt)
async def list_deployment_revisions(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    entries = await intents_of(request.app).deployments.revisions(name)
    return answer_json(DeploymentVersions(items=tuple(map(_describe, entries))))


@get(f"{PREFIX}/deployments/{{name:str}}/revisions/{{version:str}}", opt=REVISION.opt)
async def get_deployment_revision(request: Asked, name: FromPath[str], version: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_json(_describe(await intents_of(request.app).deployments.revision(name, read_count(version, "version"))))


def _describe(entry: RevisionEntry) -> DeploymentVersion:
    spec = entry.revision.spec
    return DeploymentVersion(
        revision=spec.number,
        at=spec.at,
        by=spec.by,
        reason=spec.reason,
        target=entry.is_target,
        vms=entry.vms,
        changed=entry.changed,
        hash=spec.hash,
        vm=spec.vm,
        vm_labels=spec.vm_labels,
    )


HANDLERS = (
    scale_deployment,
    pause_deployment,
    resume_deployment,
    restart_deployment,
    undo_deployment,
    list_deployment_revisions,
    get_deployment_revision,
)
