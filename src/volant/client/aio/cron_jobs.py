# Made of volant/client/cron_jobs.py by volant.client.generate: change that, and make this anew.
"""Schedules through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.client.aio.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query
from volant.core.job import CronJob, Job
from volant.core.resource import read_wire

PATH = "/api/v1/cronjobs"


class CronJobs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, wanted: Mapping[str, Any], *, dry_run: bool = False) -> CronJob:
        """``wanted`` is the flat object: ``{"name": "backup", "schedule": "30 4 * * *", "job": {"vm": {"plugin": "backup"}}}``.
        With ``dry_run`` nothing is written, and the answer is what would be."""
        answer = await self._connection.request(
            "POST", PATH, query={"dry_run": dry_run or None}, document=dict(wanted), timeout_s=ANSWER_S
        )
        return read_wire(CronJob, answer.json())

    async def get(self, name: str) -> CronJob:
        return read_wire(CronJob, await self._connection.get_json(f"{PATH}/{name}"))

    async def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[CronJob]:
        """All that match, or the first ``limit``. ``labels`` is a selector, or labels that all must be there; the filters are
        those of the API: ``suspended``, ``q``, ``sort``, ``order``, ``limit``."""
        return [*(await self.list_page(labels, filters))[0]]

    async def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[CronJob], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join((f"{key}={value}" for key, value in (labels or {}).items()))
        answer = await self._connection.request(
            "GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})}
        )
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return ([read_wire(CronJob, item) for item in found["items"]], found.get("next"), total)

    async def replace(
        self, name: str, wanted: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False
    ) -> CronJob:
        """Have it be as ``wanted``; jobs that were made stay as they are."""
        return await self._change("PUT", name, dict(wanted), generation, dry_run)

    async def edit(
        self, name: str, change: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False
    ) -> CronJob:
        """``change`` is a merge patch (RFC 7396). ``generation``: raise PreconditionFailed when it is at another."""
        return await self._change("PATCH", name, dict(change), generation, dry_run)

    async def suspend(self, name: str) -> CronJob:
        """Make no jobs; what comes meanwhile is left out for good."""
        return await self.edit(name, {"suspended": True})

    async def resume(self, name: str) -> CronJob:
        return await self.edit(name, {"suspended": False})

    async def trigger(self, name: str) -> Job:
        """A job of it, now."""
        answer = await self._connection.request("POST", f"{PATH}/{name}/trigger", timeout_s=ANSWER_S)
        return read_wire(Job, answer.json())

    async def delete(
        self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None
    ) -> CronJob | None:
        """The schedule as it is being deleted; None when it was waited for and is gone, with all its jobs."""
        answer = await self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(CronJob, answer.json())

    async def _change(self, method: str, name: str, document: dict[str, Any], generation: int | None, dry_run: bool) -> CronJob:
        answer = await self._connection.request(
            method,
            f"{PATH}/{name}",
            query={"dry_run": dry_run or None},
            document=document,
            headers=if_match(generation),
            timeout_s=ANSWER_S,
        )
        return read_wire(CronJob, answer.json())
