"""The OpenAPI document that a workload gives of itself: asked for, bounded, read as data, and kept for a moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml
from litestar import Litestar

from volant.api.access import door_of
from volant.api.guest_http import fetch
from volant.api.workload import Workload
from volant.core.clock import Clock
from volant.core.errors import BadAnswer, NotFound, TimedOut

DOCUMENT_MAX_BYTES = 2 * 1024 * 1024
FETCH_S = 10.0
KEPT_S = 10.0
KEPT_MAX = 64
DEPTH_MAX = 64
USUAL_PATHS = ("/openapi.json", "/openapi.yaml", "/openapi", "/v1/openapi")
"""Where workloads keep it. ``/openapi`` is what the original's ``/v1/openapi`` led to."""

_ACCEPT = b"application/vnd.oai.openapi+json, application/json, application/yaml;q=0.9, */*;q=0.1"


class GuestDocuments:
    """One document a run of a VM, the latest few."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, dict[str, Any]]] = OrderedDict()

    async def read(self, app: Litestar, workload: Workload) -> dict[str, Any]:
        """Raises NotFound when the workload gives none, BadAnswer for one that is none, and what reaching it raises."""
        key = (workload.vm.uid, workload.vm.status.run_id)
        now = self._clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        found = await _fetch_document(app, workload)
        self._kept[key] = (now, found)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found


async def _fetch_document(app: Litestar, workload: Workload) -> dict[str, Any]:
    try:
        async with asyncio.timeout(FETCH_S):
            for path in _list_paths(workload):
                content = await _fetch_one(app, workload, path)
                if content is not None:
                    return await asyncio.to_thread(read_document, content)
    except TimeoutError as error:
        raise TimedOut(f"the workload of {workload.vm.name!r} did not give its OpenAPI document in {FETCH_S:g} s") from error
    raise NotFound(
        f"the workload of {workload.vm.name!r} gives no OpenAPI document",
        hint="its manifest may name the path, as in openapi: /docs/openapi.json",
    )


async def _fetch_one(app: Litestar, workload: Workload, path: str) -> bytes | None:
    target = workload.target_of(path)
    headers = [(b"host", workload.authority.encode()), (b"accept", _ACCEPT), (b"connection", b"close")]
    async with door_of(app).open_port(workload.vm.uid, workload.port, host=workload.host) as stream:
        head, content = await fetch(stream, target, headers, DOCUMENT_MAX_BYTES)
    return content if head.status == 200 else None


def _list_paths(workload: Workload) -> tuple[str, ...]:
    """The one that the manifest names, when it lies in the workload itself: a URL of elsewhere, or a file of the host, is nothing
    that a guest's manifest may have volantd read."""
    named = workload.manifest.openapi
    if named.startswith("/") and not named.startswith("//"):
        return (named, *(path for path in USUAL_PATHS if path != named))
    base = urlsplit(workload.manifest.workload.base_url)
    parts = urlsplit(named)
    if parts.scheme == "http" and parts.netloc == base.netloc:
        rest = parts.path.removeprefix(base.path.rstrip("/"))
        return (f"{rest}?{parts.query}" if parts.query else rest, *USUAL_PATHS)
    return USUAL_PATHS


def read_document(content: bytes) -> dict[str, Any]:
    """The OpenAPI document that ``content`` is, JSON or YAML. Raises BadAnswer."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _read_yaml(content)
    if not isinstance(found, dict) or not isinstance(found.get("openapi", found.get("swagger")), str):
        raise BadAnswer("what the workload gives as its OpenAPI document is none")
    if not isinstance(found.get("paths", {}), dict):
        raise BadAnswer("the paths of the workload's OpenAPI document are no object")
    _check_depth(found)
    return found


def _read_yaml(content: bytes) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one is not in every build
    try:
        _check_events(yaml.parse(content, Loader=loader))
        # Through JSON, so that dates, sets and other kinds of YAML become what they are written as.
        return msgspec.json.decode(msgspec.json.encode(yaml.load(content, Loader=loader)))  # noqa: S506  # a safe one
    except (yaml.YAMLError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BadAnswer(f"the workload's OpenAPI document is neither JSON nor YAML: {str(error)[:200]}") from error


def _check_events(events: Iterable[Any]) -> None:
    """Before anything is built: with aliases a small document can be an endless one, and deep ones exhaust the stack."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise BadAnswer("the workload's OpenAPI document has YAML aliases, which are not followed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise _too_deep()


def _too_deep() -> BadAnswer:
    return BadAnswer(f"the workload's OpenAPI document is deeper than {DEPTH_MAX}")


def _check_depth(found: Any) -> None:
    level: list[Any] = [found]
    for _ in range(DEPTH_MAX):
        level = [
            item for one in level for item in (one.values() if isinstance(one, dict) else one) if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise _too_deep()
