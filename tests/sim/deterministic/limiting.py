"""Quotas, and what operators do to the node: cordon it, taint it, empty it."""

from __future__ import annotations

import asyncio
from typing import Any

from .user import User

QUOTAS = "/api/v1/quotas"
AT_NODE = "/api/v1/nodes/here"
NAMES = ("small", "smaller")
MERGE = "application/merge-patch+json"

Data = dict[str, Any]


class Limiting:
    def __init__(self, user: User) -> None:
        self._user = user
        self._world = user.world
        source = user.source
        self._names = NAMES[: source.choice((0, 0, 1, 2))]
        self._keeps_nodes = source.random() < 0.4

    async def run(self) -> None:
        """A task body; runs until cancelled."""
        source = self._user.source
        while self._names or self._keeps_nodes:
            await asyncio.sleep(source.random() ** 2 * 30.0)
            if self._names and (not self._keeps_nodes or source.random() < 0.5):
                await self._limit(source.choice(self._names))
            else:
                await self._keep_node()

    async def _limit(self, name: str) -> None:
        user, source = self._user, self._user.source
        if self._world.registry.get("Quota", name) is None:
            await user.ask("POST", QUOTAS, {"name": name, **self._limits()})
        elif source.random() < 0.25:
            await user.ask("DELETE", f"{QUOTAS}/{name}")
        else:
            await user.ask("PATCH", f"{QUOTAS}/{name}", self._limits(), media_type=MERGE)

    def _limits(self) -> Data:
        source = self._user.source
        limits: Data = {"vms": source.randrange(1, 14)}
        if source.random() < 0.5:
            limits["memory_mb"] = source.choice((1024, 2048, 8192))
        if source.random() < 0.3:
            limits |= {"jobs": source.randrange(3), "deployments": source.randrange(3)}
        return limits

    async def _keep_node(self) -> None:
        user, source = self._user, self._user.source
        effect = source.choice(("NoSchedule", "NoExecute", "PreferNoSchedule"))
        match source.choice(("cordon", "uncordon", "uncordon", "taint", "untaint", "drain")):
            case "cordon":
                await self._edit({"unschedulable": True})
            case "uncordon":
                await self._edit({"unschedulable": False})
            case "taint":
                await self._edit({"taints": [{"key": "repair", "effect": effect}]})
            case "untaint":
                await self._edit({"taints": []})
            case _:
                for _ in range(source.randrange(1, 5)):
                    query = source.choice(("", "", "stop=true", "force=true"))
                    await user.ask("POST", f"{AT_NODE}/drain", query=query)
                    await asyncio.sleep(source.random() * 5.0)

    async def _edit(self, patch: Data) -> None:
        await self._user.ask("PATCH", AT_NODE, patch, media_type=MERGE)

    # The end

    async def help(self) -> None:
        """Let there be room again."""
        node = self._world.registry.get("Node", "here", "")
        if node is not None and (node["spec"]["unschedulable"] or node["spec"]["taints"]):
            await self._edit({"unschedulable": False, "taints": []})
        for key, quota in self._world.registry.of_kind("Quota"):
            if quota["spec"]["vms"] != 1000:
                lifted = {"vms": 1000, "memory_mb": None, "jobs": None, "deployments": None}
                await self._user.ask("PATCH", f"{QUOTAS}/{key.name}", lifted, media_type=MERGE)

    def unsettled(self) -> list[str]:
        return self._world.quota_invariants.wrong()

    async def delete_all(self) -> None:
        for key, _ in self._world.registry.of_kind("Quota"):
            await self._user.insist("DELETE", f"{QUOTAS}/{key.name}", good=(404,))
