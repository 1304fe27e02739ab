"""VMs that people ask for one by one."""

from __future__ import annotations

import asyncio

from .user import User

VMS = "/api/v1/vms"
NAMES = ("alpha", "beta", "gamma", "web-1")
"""One has a name that a deployment would like to give a replica."""


class Machines:
    def __init__(self, user: User) -> None:
        self._user = user
        self._world = user.world

    async def run(self) -> None:
        """A task body; runs until cancelled."""
        source = self._user.source
        while True:
            await asyncio.sleep(source.random() ** 3 * 8.0)
            await self._do(source.choice(NAMES))

    async def _do(self, name: str) -> None:
        source, ask = self._user.source, self._user.ask
        if self._world.registry.get("VM", name) is None:
            wanted = {"name": name, "plugin": "nginx", "start": source.choice(("auto", "auto", "cold")), "env": {"N": "0"}}
            query = source.choice(("", "", "wait=ready&timeout=30s"))
            await ask("POST", VMS, wanted, query=query)
            return
        match source.choice(("stop", "start", "restart", "delete", "suspend", "resume", "edit", "get", "force")):
            case "delete":
                await ask("DELETE", f"{VMS}/{name}")
            case "force":
                await ask("POST", f"{VMS}/{name}/stop", query="force=true")
            case "edit":
                await ask("PATCH", f"{VMS}/{name}/config", {"env": {"N": str(source.randrange(100))}})
            case "get":
                await ask("GET", f"{VMS}/{name}")
            case verb:
                await ask("POST", f"{VMS}/{name}/{verb}")

    def unsettled(self) -> list[str]:
        """What is not as it was asked for."""
        left = []
        for key, vm in self._world.registry.of_kind("VM"):
            if vm["meta"].get("owner") or vm["spec"]["power"] == "parked":
                continue
            status = vm["status"]
            if vm["meta"]["deleting_at"]:
                left.append(f"{key} is being deleted")
                continue
            is_there = {
                "running": status["ready"] and status["phase"] == "Running",
                "stopped": status["phase"] == "Stopped",
                "suspended": status["phase"] in ("Suspended", "Stopped", "Pending"),
            }[vm["spec"]["power"]]
            if not is_there:
                words = f"{status['phase']}: {status['reason']} {status['message']}"
                left.append(f"{key} is to be {vm['spec']['power']} and is {words}")
        return left

    async def help(self) -> None:
        """What people left suspended or parked may stay so."""

    async def delete_all(self) -> None:
        for key, vm in self._world.registry.of_kind("VM"):
            if not vm["meta"].get("owner"):
                await self._user.insist("DELETE", f"{VMS}/{key.name}", good=(404,))
