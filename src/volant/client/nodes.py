"""Nodes through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from volant.client.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query
from volant.core.node import Node
from volant.core.resource import read_wire

PATH = "/api/v1/nodes"
MERGE_PATCH = "application/merge-patch+json"


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that stays for now, and why."""

    vm: str
    project: str
    reason: str


class DrainStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of a drain did: ``moved`` are deleted to be made elsewhere, ``stopped`` were asked to stop, ``going`` are on
    their way."""

    node: str
    moved: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    @property
    def is_done(self) -> bool:
        return not (self.moved or self.stopped or self.going or self.blocked)


class Nodes:
    """``generation`` everywhere: raise PreconditionFailed when the node is at another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Node:
        return read_wire(Node, self._connection.get_json(f"{PATH}/{name}"))

    def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[Node]:
        """All that match. The filters are those of the API: ``state``, ``q``, ``sort``, ``order``, ``limit``."""
        return [*self.list_page(labels, filters)[0]]

    def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[Node], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        answer = self._connection.request("GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})})
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return [read_wire(Node, item) for item in found["items"]], found.get("next"), total

    def replace(self, name: str, wanted: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False) -> Node:
        """The whole flat object, as ``get`` gives it and somebody edited it."""
        answer = self._connection.request(
            "PUT",
            f"{PATH}/{name}",
            query={"dry_run": "true" if dry_run else None},
            document=dict(wanted),
            headers=if_match(generation),
        )
        return read_wire(Node, answer.json())

    def edit(self, name: str, patch: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False) -> Node:
        """A merge patch (RFC 7396): ``{"unschedulable": True}``, ``{"labels": {"zone": "a"}}``, ``{"cpu_overcommit": 8}``."""
        answer = self._connection.request(
            "PATCH",
            f"{PATH}/{name}",
            query={"dry_run": "true" if dry_run else None},
            document=dict(patch),
            headers={**if_match(generation), "Content-Type": MERGE_PATCH},
        )
        return read_wire(Node, answer.json())

    def drain(self, name: str, *, stop: bool = False, force: bool = False) -> DrainStep:
        """One step of emptying a node: cordon it, and take away what can go now. Ask again until it ``is_done``."""
        query = {"stop": "true" if stop else None, "force": "true" if force else None}
        return msgspec.convert(self._connection.request("POST", f"{PATH}/{name}/drain", query=query).json(), DrainStep)

    def delete(
        self, name: str, *, force: bool = False, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None
    ) -> Node | None:
        """The node as it is being removed; None when that was waited for. ``force``: also while it is there or has VMs, which are
        given up."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query={**wait_query("deleted" if wait else None, timeout_s), "force": "true" if force else None},
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Node, answer.json())
