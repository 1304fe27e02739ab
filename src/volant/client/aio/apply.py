# Made of volant/client/apply.py by volant.client.generate: change that, and make this anew.
"""Files that are applied through the API: resources of any kind, as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.client.aio.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query

PATH = "/api/v1/apply"
AT_ONCE = frozenset({"quotas"})
"What is gone when its deletion is answered, so that there is nothing to wait for."
APPLY_S = 60.0
"A plugin's files may be read before it is answered."


class Applications:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def apply(
        self, document: Mapping[str, Any], *, manager: str = "volar", force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> dict[str, Any]:
        """``action`` (created, changed, unchanged), ``changes`` and ``resource``; with ``dry_run`` nothing is written, and
        ``before`` is what there is. Applying the same again changes nothing.

        Raises:
            FieldConflict: others decide a field otherwise, and ``force`` is not given to take it over.
        """
        headers = {"Volant-Reason": reason.encode().decode("latin-1")} if reason else {}
        query = {"manager": manager, "force": force or None, "dry_run": dry_run or None}
        answer = await self._connection.request(
            "POST", PATH, query=query, document=dict(document), headers=headers, timeout_s=APPLY_S
        )
        applied: dict[str, Any] = answer.json()
        return applied

    async def list_applied(self, manager: str = "volar", labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """What ``manager`` applied, of all kinds, as flat objects, in the order in which one needs another."""
        selector = ",".join((f"{key}={value}" for key, value in labels.items())) if labels else None
        found: list[dict[str, Any]] = (
            await self._connection.get_json("/api/v1/applied", {"manager": manager, "labels": selector})
        )["items"]
        return found

    async def standing(self, kind: str, name: str, *, timeout_s: float = 0.0) -> dict[str, Any]:
        """``settled``, ``failed``, ``message`` and ``resource``, once it is settled or after ``timeout_s``. Raises NotFound."""
        query = {"timeout": f"{timeout_s:.3f}s"} if timeout_s > 0 else None
        answer = await self._connection.request(
            "GET", f"/api/v1/standing/{kind}/{name}", query=query, timeout_s=ANSWER_S + timeout_s
        )
        found: dict[str, Any] = answer.json()
        return found

    async def schema(self, kind: str) -> dict[str, Any]:
        """The JSON Schema of a document of this kind."""
        found: dict[str, Any] = await self._connection.get_json(f"/api/v1/schemas/{kind}")
        return found

    async def delete(
        self, plural: str, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None
    ) -> bool:
        """True when it is gone, False when it goes. Raises NotFound when there was none."""
        answer = await self._connection.request(
            "DELETE",
            f"/api/v1/{plural}/{name}",
            query=wait_query("deleted" if wait and plural not in AT_ONCE else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return answer.status == 204
