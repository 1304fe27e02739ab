"""Jobs through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.client.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query
from volant.core.job import Job
from volant.core.resource import read_wire

PATH = "/api/v1/jobs"


class Jobs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, wanted: Mapping[str, Any], *, wait: bool = False, timeout_s: float = 60.0, dry_run: bool = False) -> Job:
        """``wanted`` is the flat object: ``{"name": "sum", "vm": {"plugin": "busybox", "command": ["true"]}}``.

        With ``wait`` the answer comes when it has ended, well or not: look at its status. With ``dry_run`` nothing is written,
        and the answer is what would be.
        """
        answer = self._connection.request(
            "POST",
            PATH,
            query={**wait_query("finished" if wait else None, timeout_s), "dry_run": dry_run or None},
            document=dict(wanted),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Job, answer.json())

    def get(self, name: str) -> Job:
        return read_wire(Job, self._connection.get_json(f"{PATH}/{name}"))

    def wait(self, name: str, *, timeout_s: float = 60.0) -> Job:
        """The job when it has ended, well or not. Raises TimedOut."""
        answer = self._connection.request(
            "GET", f"{PATH}/{name}", query=wait_query("finished", timeout_s), timeout_s=ANSWER_S + timeout_s
        )
        return read_wire(Job, answer.json())

    def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[Job]:
        """All that match, or the first ``limit``. ``labels`` is a selector, or labels that all must be there; the filters are
        those of the API: ``phase``, ``plugin``, ``cronjob``, ``q``, ``sort``, ``order``, ``limit``."""
        return [*self.list_page(labels, filters)[0]]

    def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[Job], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        answer = self._connection.request("GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})})
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return [read_wire(Job, item) for item in found["items"]], found.get("next"), total

    def replace(self, name: str, wanted: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False) -> Job:
        """Have it be as ``wanted``; only parallelism, retries, deadline_s, keep_s, suspended and labels may differ."""
        return self._change("PUT", name, dict(wanted), generation, dry_run)

    def edit(self, name: str, change: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False) -> Job:
        """``change`` is a merge patch (RFC 7396). ``generation``: raise PreconditionFailed when it is at another."""
        return self._change("PATCH", name, dict(change), generation, dry_run)

    def suspend(self, name: str) -> Job:
        """Start nothing new; what runs goes on."""
        return self.edit(name, {"suspended": True})

    def resume(self, name: str) -> Job:
        return self.edit(name, {"suspended": False})

    def delete(self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None) -> Job | None:
        """The job as it is being deleted; None when it was waited for and is gone, with all its VMs."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Job, answer.json())

    def _change(self, method: str, name: str, document: dict[str, Any], generation: int | None, dry_run: bool) -> Job:
        answer = self._connection.request(
            method,
            f"{PATH}/{name}",
            query={"dry_run": dry_run or None},
            document=document,
            headers=if_match(generation),
            timeout_s=ANSWER_S,
        )
        return read_wire(Job, answer.json())
