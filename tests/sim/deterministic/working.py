"""Jobs: asked for, changed, and disturbed by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from .user import User
from .vms import VMS

JOBS = "/api/v1/jobs"
NAMES = ("sum", "mix")
KEPT_RUNS = 20

Data = dict[str, Any]


class Working:
    def __init__(self, user: User) -> None:
        self._user = user
        self._world = user.world
        self._names = NAMES[: user.source.choice((0, 1, 1, 2))]

    async def run(self) -> None:
        """A task body; runs until cancelled."""
        source = self._user.source
        while self._names:
            await asyncio.sleep(source.random() ** 3 * 20.0)
            await self._do(source.choice(self._names))

    async def _do(self, name: str) -> None:
        user, source = self._user, self._user.source
        at = f"{JOBS}/{name}"
        job = self._world.registry.get("Job", name)
        if job is None:
            await user.ask("POST", JOBS, self._describe(name), query=source.choice(("", "wait=finished&timeout=30s")))
            return
        match source.choice(("edit", "suspend", "resume", "hand", "hand", "delete", "get")):
            case "edit":
                change = source.choice(
                    ({"parallelism": source.randrange(1, 5)}, {"retries": source.randrange(7)}, {"deadline_s": 60})
                )
                await self._change(name, change)
            case "suspend":
                await self._change(name, {"suspended": True})
            case "resume":
                await self._change(name, {"suspended": False})
            case "hand":
                await self._touch_by_hand(job)
            case "delete":
                if source.random() < 0.5 or job["status"]["ended_at"]:
                    await user.ask("DELETE", at)
            case _:
                await user.ask("GET", at)

    async def _touch_by_hand(self, job: Data) -> None:
        """Somebody does to a run what the job must not count as done."""
        source = self._user.source
        runs = self._world.registry.owned(job["meta"]["uid"], "VM")
        if not runs:
            return
        at = f"{VMS}/{source.choice(runs)['meta']['name']}"
        verb = source.choice(("delete", "stop", "start", "restart"))
        await (self._user.ask("DELETE", at) if verb == "delete" else self._user.ask("POST", f"{at}/{verb}"))

    def _describe(self, name: str) -> Data:
        source = self._user.source
        commands = (["true"], ["sleep", "1"], ["sleep", "8"], ["sh", "-c", "exit 3"], ["/usr/sbin/nginx"])
        return {
            "name": name,
            "vm": {"plugin": "nginx", "command": source.choice(commands[:3] * 3 + commands[3:])},
            "completions": source.choice((1, 2, 4, 7)),
            "parallelism": source.choice((1, 2, 3)),
            "retries": source.choice((0, 2, 5, 20)),
            # The last of the commands runs for ever.
            "deadline_s": source.choice((20, 60, 300)),
            "keep_s": source.choice((None, None, 0, 20)),
        }

    async def _change(self, name: str, patch: Data) -> None:
        await self._user.ask("PATCH", f"{JOBS}/{name}", patch, media_type="application/merge-patch+json")

    # The end

    async def help(self) -> None:
        for key, job in self._world.registry.of_kind("Job"):
            if job["spec"]["suspended"] and not job["meta"]["deleting_at"]:
                await self._change(key.name, {"suspended": False})

    def unsettled(self) -> list[str]:
        left = []
        for key, job in self._world.registry.of_kind("Job"):
            status, spec = job["status"], job["spec"]
            vms = self._world.registry.owned(job["meta"]["uid"], "VM")
            if job["meta"]["deleting_at"]:
                left.append(f"{key} is being deleted")
            elif status["ended_at"] is None:
                words = f"{status['succeeded']} of {spec['completions']} done, {status['failed']} failed"
                left.append(f"{key} has not ended: {status['phase']} {status['reason']} {status['message']} ({words})")
            elif running := [vm["meta"]["name"] for vm in vms if self._runs(vm)]:
                left.append(f"{key} has ended, and {', '.join(running)} run")
            elif len(vms) > KEPT_RUNS:
                left.append(f"{key} keeps {len(vms)} VMs")
        return left

    def _runs(self, vm: Data) -> bool:
        process = self._world.host.running.get(vm["meta"]["uid"])
        return process is not None and process.ending is None

    async def delete_all(self) -> None:
        for key, _ in self._world.registry.of_kind("Job"):
            await self._user.insist("DELETE", f"{JOBS}/{key.name}", good=(404,))
