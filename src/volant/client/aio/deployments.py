# Made of volant/client/deployments.py by volant.client.generate: change that, and make this anew.
"""Deployments through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from volant.client.aio.connection import ANSWER_S, Connection
from volant.client.aio.stream import follow_server_events
from volant.client.waiting import if_match, wait_query
from volant.core.deployment import Deployment
from volant.core.deployment_wait import DeploymentGoal
from volant.core.resource import read_wire

PATH = "/api/v1/deployments"
Verb = Literal["create", "replace", "edit", "scale", "restart", "undo"]


class DeploymentChange(NamedTuple):
    """``type`` is put, deleted (or no longer chosen) or synced. ``id`` is empty where one cannot go on."""

    type: str
    deployment: Deployment | None
    id: str


class Deployments:
    """``generation`` everywhere: raise PreconditionFailed when the deployment is at another. ``reason`` is kept with the revision
    that a change makes. With ``wait`` the answer comes when that is reached or out of reach: look at its status."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, wanted: Mapping[str, Any], *, wait: DeploymentGoal | None = None, timeout_s: float = 60.0, reason: str = ""
    ) -> Deployment:
        """``wanted`` is the flat object, ``{"name": "web", "replicas": 3, "vm": {"plugin": "nginx"}}``, or the original's."""
        return read_wire(Deployment, await self._send("POST", PATH, dict(wanted), wait, timeout_s, None, reason))

    async def get(self, name: str) -> Deployment:
        return read_wire(Deployment, await self._connection.get_json(f"{PATH}/{name}"))

    async def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[Deployment]:
        """All that match, or the first ``limit``. The filters are those of the API: ``phase``, ``plugin``, ``q``, ``sort``,
        ``order``, ``limit``."""
        return [*(await self.list_page(labels, filters))[0]]

    async def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[Deployment], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join((f"{key}={value}" for key, value in (labels or {}).items()))
        answer = await self._connection.request(
            "GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})}
        )
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return ([read_wire(Deployment, item) for item in found["items"]], found.get("next"), total)

    async def replace(
        self,
        name: str,
        wanted: Mapping[str, Any],
        *,
        wait: DeploymentGoal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        reason: str = "",
    ) -> Deployment:
        """The whole flat object, as ``get`` gives it and somebody edited it."""
        return read_wire(Deployment, await self._send("PUT", f"{PATH}/{name}", dict(wanted), wait, timeout_s, generation, reason))

    async def edit(
        self,
        name: str,
        change: Mapping[str, Any],
        *,
        wait: DeploymentGoal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        reason: str = "",
    ) -> Deployment:
        """A merge patch (RFC 7396): ``{"vm": {"memory_mb": 512}}``; None takes a field back to its default."""
        return read_wire(
            Deployment, await self._send("PATCH", f"{PATH}/{name}", dict(change), wait, timeout_s, generation, reason)
        )

    async def scale(
        self,
        name: str,
        replicas: int,
        *,
        wait: DeploymentGoal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
    ) -> Deployment:
        """WrongState for one that is scaled by itself."""
        document = {"replicas": replicas}
        return read_wire(Deployment, await self._send("POST", f"{PATH}/{name}/scale", document, wait, timeout_s, generation))

    async def pause(self, name: str, *, generation: int | None = None) -> Deployment:
        """Roll nothing out until it is resumed."""
        return read_wire(Deployment, await self._send("POST", f"{PATH}/{name}/pause", None, None, 0, generation))

    async def resume(
        self, name: str, *, wait: DeploymentGoal | None = None, timeout_s: float = 60.0, generation: int | None = None
    ) -> Deployment:
        """Go on with what was paused, or waits for somebody."""
        return read_wire(Deployment, await self._send("POST", f"{PATH}/{name}/resume", None, wait, timeout_s, generation))

    async def restart(
        self,
        name: str,
        *,
        wait: DeploymentGoal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        reason: str = "",
    ) -> Deployment:
        """Replace its VMs by new ones of the same description, as its strategy says."""
        return read_wire(
            Deployment, await self._send("POST", f"{PATH}/{name}/restart", None, wait, timeout_s, generation, reason)
        )

    async def undo(
        self,
        name: str,
        revision: int | None = None,
        *,
        wait: DeploymentGoal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        reason: str = "",
    ) -> Deployment:
        """Have replicas be as ``revision`` says, or as they were before."""
        document = {"revision": revision}
        return read_wire(
            Deployment, await self._send("POST", f"{PATH}/{name}/undo", document, wait, timeout_s, generation, reason)
        )

    async def preview(
        self, verb: Verb, name: str, document: Mapping[str, Any] | None = None, *, generation: int | None = None
    ) -> dict[str, Any]:
        """What a change would make of it, and nothing is written: ``resource``, ``preview`` (names of VMs: ``created``,
        ``replaced``, ``removed``, ``kept``, ``passing``), ``taken``, and ``differences``. ``document`` is what the verb sends."""
        method = {"create": "POST", "replace": "PUT", "edit": "PATCH"}.get(verb, "POST")
        path = {"create": PATH, "replace": f"{PATH}/{name}", "edit": f"{PATH}/{name}"}.get(verb, f"{PATH}/{name}/{verb}")
        sent = None if document is None else dict(document)
        found: dict[str, Any] = await self._send(method, path, sent, None, 0, generation, dry_run=True)
        return found

    async def revisions(self, name: str) -> Sequence[dict[str, Any]]:
        """Newest first: ``revision``, ``at``, ``by``, ``reason``, ``target``, ``vms``, ``changed``, ``hash``, ``vm``,
        ``vm_labels``."""
        found: Sequence[dict[str, Any]] = (await self._connection.get_json(f"{PATH}/{name}/revisions"))["items"]
        return found

    async def revision(self, name: str, number: int) -> dict[str, Any]:
        found: dict[str, Any] = await self._connection.get_json(f"{PATH}/{name}/revisions/{number}")
        return found

    async def delete(
        self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None
    ) -> Deployment | None:
        """It as it is being deleted, with its VMs; None when it was waited for and is gone."""
        answer = await self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Deployment, answer.json())

    async def watch(self, name: str, *, timeout_s: float | None = None) -> AsyncIterator[Deployment | None]:
        """It now and after every change; None, and the end, when it is gone. A stream that ends is taken up again.

        Close the iterator to stop watching. Raises TimedOut when it lasts longer than ``timeout_s``, Unavailable when volantd
        does not come back.
        """
        async for event in follow_server_events(self._connection, f"{PATH}/{name}/watch", timeout_s=timeout_s):
            if event.event == "deleted":
                yield None
                return
            yield read_wire(Deployment, msgspec.json.decode(event.data))

    async def watch_all(
        self, labels: str | None = None, *, since: str = "", timeout_s: float | None = None, **filters: str | None
    ) -> AsyncIterator[DeploymentChange]:
        """Every deployment that the selector ``labels`` and the filters choose, and its changes; as ``VMs.watch_all``."""
        query = {"watch": True, "labels": labels, **filters}
        async for event in follow_server_events(self._connection, PATH, query, since=since, timeout_s=timeout_s):
            kind = "put" if event.event == "message" else event.event
            found = None if kind == "synced" else read_wire(Deployment, msgspec.json.decode(event.data))
            yield DeploymentChange(kind, found, event.id)

    async def _send(
        self,
        method: str,
        path: str,
        document: dict[str, Any] | None,
        wait: DeploymentGoal | None,
        timeout_s: float,
        generation: int | None,
        reason: str = "",
        *,
        dry_run: bool = False,
    ) -> Any:
        because = {"Volant-Reason": reason.encode().decode("latin-1")} if reason else {}
        answer = await self._connection.request(
            method,
            path,
            query={**wait_query(wait, timeout_s), "dry_run": dry_run or None},
            document=document,
            headers={**if_match(generation), **because},
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return answer.json()
