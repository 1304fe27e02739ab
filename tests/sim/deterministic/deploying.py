"""Deployments: asked for, scaled, changed, and broken by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from volant.core.deployment import replica_index

from .invariants import wanted_of
from .user import User
from .vms import VMS

DEPLOYMENTS = "/api/v1/deployments"
NAMES = ("web", "api")
MOST = 6
BUDGETS: tuple[dict[str, Any], ...] = ({}, {"max_unavailable": 1}, {"min_available": "50%"}, {"max_unavailable": 0})

Data = dict[str, Any]


class Deploying:
    def __init__(self, user: User) -> None:
        self._user = user
        self._world = user.world
        self._names = NAMES[: user.source.choice((0, 1, 1, 2))]
        """A quarter of the seeds has none."""
        self._version = 0
        self._scales = user.source.random() < 0.25

    async def run(self) -> None:
        """A task body; runs until cancelled."""
        source = self._user.source
        while self._names:
            await asyncio.sleep(source.random() ** 3 * 12.0)
            await self._do(source.choice(self._names))

    async def _do(self, name: str) -> None:
        user, source = self._user, self._user.source
        at = f"{DEPLOYMENTS}/{name}"
        if self._find(name) is None:
            await user.ask("POST", DEPLOYMENTS, self._describe(name), query=source.choice(("", "wait=available&timeout=60s")))
            return
        match source.choice(("scale", "scale", "update", "update", "hand", "hand", "hand", "restart", "undo", "pause", "resume",
                             "edit", "apply", "delete")):  # fmt: skip
            case "scale":
                await user.ask("POST", f"{at}/scale", {"replicas": source.randrange(MOST + 1)})
            case "update":
                await self._change(name, {"vm": {"env": self._env(bad=source.random() < 0.25)}})
            case "hand":
                await self._touch_by_hand(name)
            case "edit":
                await self._change(name, self._edit())
            case "apply":
                await self._apply(name)
            case "undo":
                await user.ask("POST", f"{at}/undo", {})
            case "delete":
                if source.random() < 0.3:
                    await user.ask("DELETE", at)
            case verb:
                await user.ask("POST", f"{at}/{verb}")

    async def _touch_by_hand(self, name: str) -> None:
        """Somebody does to one replica what the deployment has to make good."""
        source = self._user.source
        deployment = self._find(name)
        if deployment is None:
            return
        replicas = self._world.registry.owned(deployment["meta"]["uid"], "VM")
        if not replicas:
            return
        at = f"{VMS}/{source.choice(replicas)['meta']['name']}"
        insisting = source.choice(("", "", "", "disrupt=true"))
        match source.choice(("delete", "stop", "suspend", "restart", "edit")):
            case "delete":
                await self._user.ask("DELETE", at, query=insisting)
            case "edit":
                await self._user.ask("PATCH", f"{at}/config", {"env": {"BY": "hand"}})
            case verb:
                await self._user.ask("POST", f"{at}/{verb}", query=insisting)

    def _edit(self) -> Data:
        source = self._user.source
        edit: Data = {"strategy": self._strategy(), "min_ready_s": source.choice((0, 0, 2))}
        if source.random() < 0.3:
            edit["budget"] = {"max_unavailable": None, "min_available": None} | source.choice(BUDGETS)
        if source.random() < 0.3:
            edit["autoscale"] = self._autoscale() if self._scales and source.random() < 0.7 else None
        return edit

    def _describe(self, name: str) -> Data:
        source = self._user.source
        return {
            "name": name,
            "replicas": source.randrange(1, MOST + 1),
            "vm": {"plugin": "nginx", "env": self._env(bad=False)},
            "strategy": self._strategy(),
            "min_ready_s": source.choice((0, 0, 2)),
            "progress_deadline_s": source.choice((20, 60)),
            "replace_after_s": source.choice((0, 5, 30)),
            "auto_rollback": source.random() < 0.7,
            "history_limit": source.choice((1, 2, 10)),
            "budget": source.choice(BUDGETS),
            "autoscale": self._autoscale() if self._scales else None,
        }

    async def _apply(self, name: str) -> None:
        """By a file, which decides some of the fields from then on."""
        source = self._user.source
        document: Data = {"kind": "Deployment", "name": name, "vm": {"plugin": "nginx", "env": self._env(bad=False)}}
        if source.random() < 0.5:
            document |= {"replicas": source.randrange(MOST + 1), "min_ready_s": source.choice((0, 2))}
        query = f"manager={source.choice(('file', 'other'))}{source.choice(('', '&force=true'))}"
        await self._user.ask("POST", "/api/v1/apply", document, query=query)

    def _autoscale(self) -> Data:
        source = self._user.source
        least = source.randrange(1, 4)
        return {
            "min": least,
            "max": least + source.randrange(3),
            "metrics": [{"type": "cpu", "target": 50}],
            "interval_s": source.choice((1, 5)),
            "up_after_s": source.choice((0, 5)),
            "down_after_s": source.choice((2, 10)),
        }

    def _strategy(self) -> Data:
        source = self._user.source
        kind = source.choice(("rolling", "rolling", "recreate", "blue-green", "canary"))
        strategy: Data = {
            "type": kind,
            "max_surge": source.choice((0, 1, 2, "25%", "100%")),
            "max_unavailable": source.choice((0, 1, "25%")),
        }
        if kind == "blue-green":
            strategy |= {"keep_old_s": source.choice((0, 5, 30)), "promote": source.choice(("auto", "manual"))}
        if kind == "canary":
            strategy["steps"] = [{"replicas": 1, "pause_s": source.choice((None, 3))}, {"replicas": "50%", "pause_s": 5}]
        return strategy

    def _env(self, *, bad: bool) -> dict[str, str]:
        self._version += 1
        return {"VERSION": str(self._version), "BAD": self._user.source.choice(("never", "crash")) if bad else ""}

    async def _change(self, name: str, patch: Data) -> None:
        await self._user.ask("PATCH", f"{DEPLOYMENTS}/{name}", patch, media_type="application/merge-patch+json")

    def _find(self, name: str) -> Data | None:
        return self._world.registry.get("Deployment", name)

    # The end

    async def help(self) -> None:
        """What only people can do, so that everything can come true: go on with what waits for them, mend what is bad, clear
        names that are taken."""
        for key, deployment in self._world.registry.of_kind("Deployment"):
            spec, at = deployment["spec"], f"{DEPLOYMENTS}/{key.name}"
            if deployment["meta"]["deleting_at"]:
                continue
            taken = self._world.registry.get("VM", f"{key.name}-1")
            if taken is not None and not taken["meta"].get("owner") and not taken["meta"]["deleting_at"]:
                await self._user.ask("DELETE", f"{VMS}/{key.name}-1")
            if spec["vm"]["env"].get("BAD"):
                await self._change(key.name, {"vm": {"env": self._env(bad=False)}})
            elif spec["paused"] or deployment["status"]["rollout"]["phase"] == "Waiting":
                await self._user.ask("POST", f"{at}/resume")
            elif deployment["status"]["rollout"]["phase"] == "Failed":
                await self._user.ask("POST", f"{at}/restart")

    def unsettled(self) -> list[str]:
        left = []
        for key, deployment in self._world.registry.of_kind("Deployment"):
            why = self._judge(key.name, deployment)
            if why:
                left.append(f"{key} {why}")
        return left

    def _judge(self, name: str, deployment: Data) -> str:
        status, spec = deployment["status"], deployment["spec"]
        if deployment["meta"]["deleting_at"]:
            return "is being deleted"
        wanted = wanted_of(deployment)
        vms = self._world.registry.owned(deployment["meta"]["uid"], "VM")
        counts = {field: status[field] for field in ("wanted", "replicas", "updated", "available")}
        if any(count != wanted for count in counts.values()) or len(vms) != wanted:
            return f"is to have {wanted} and has {counts} ({len(vms)} VMs): {status['phase']} {status['message']}"
        if status["rollout"]["phase"] not in ("Complete", "RolledBack"):
            return f"is {status['rollout']['phase']}: {status['rollout']['message']}"
        if status["disrupted"]:
            return f"still counts {status['disrupted']} as stopped on purpose"
        # Where few were left when it was made smaller they keep their names; a rollout brings them down again.
        names = [vm["meta"]["name"] for vm in vms if replica_index(name, vm["meta"]["name"]) is None]
        if names:
            return f"has {', '.join(names)}"
        wrong = [vm["meta"]["name"] for vm in vms if vm["spec"]["env"] != spec["vm"]["env"] or not vm["status"]["ready"]]
        return f"has {', '.join(wrong)} that are not as described" if wrong else ""

    async def delete_all(self) -> None:
        for key, _ in self._world.registry.of_kind("Deployment"):
            await self._user.insist("DELETE", f"{DEPLOYMENTS}/{key.name}", good=(404,))
