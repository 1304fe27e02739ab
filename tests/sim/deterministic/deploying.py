"""Deployments: asked for, scaled, changed, and broken by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from .invariants import wanted_of
from .user import User
from .vms import VMS

DEPLOYMENTS = "/api/v1/deployments"
NAMES = ("web", "api")
MOST = 6

Data = dict[str, Any]


class Deploying:
    def __init__(self, user: User) -> None:
        self._user = user
        self._world = user.world
        self._names = NAMES[: user.source.choice((0, 1, 1, 2))]
        """A quarter of the seeds has none."""
        self._version = 0

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
                             "edit", "delete")):  # fmt: skip
            case "scale":
                await user.ask("POST", f"{at}/scale", {"replicas": source.randrange(MOST + 1)})
            case "update":
                await self._change(name, {"vm": {"env": self._env(bad=source.random() < 0.25)}})
            case "hand":
                await self._touch_by_hand(name)
            case "edit":
                await self._change(name, {"strategy": self._strategy(), "min_ready_s": source.choice((0, 0, 2))})
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
        match source.choice(("delete", "stop", "suspend", "restart", "edit")):
            case "delete":
                await self._user.ask("DELETE", at)
            case "edit":
                await self._user.ask("PATCH", f"{at}/config", {"env": {"BY": "hand"}})
            case verb:
                await self._user.ask("POST", f"{at}/{verb}")

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
            "budget": source.choice(({}, {"max_unavailable": 1}, {"min_available": "50%"})),
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
        names = sorted(vm["meta"]["name"] for vm in vms)
        expected = sorted(f"{name}-{index}" for index in range(wanted))
        invariants = self._world.invariants
        is_free = deployment["meta"]["uid"] not in invariants.ever_swapped and not invariants.own_names.keys() & set(expected)
        if names != expected and is_free:
            return f"has {', '.join(names)}"
        wrong = [vm["meta"]["name"] for vm in vms if vm["spec"]["env"] != spec["vm"]["env"] or not vm["status"]["ready"]]
        return f"has {', '.join(wrong)} that are not as described" if wrong else ""

    async def delete_all(self) -> None:
        for key, _ in self._world.registry.of_kind("Deployment"):
            await self._user.insist("DELETE", f"{DEPLOYMENTS}/{key.name}", good=(404,))
