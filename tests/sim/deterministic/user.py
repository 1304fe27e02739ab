"""Who asks: does random things through the API, and remembers what was acknowledged."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from .client import Answer, Gone, ask
from .registry import Broken
from .world import World

ANSWER_S = 400.0
"""Simulated seconds after which an answer that does not come is a defect, not patience."""

UNSURE = (500, 502, 503, 504, 507)
"""Answers after which it is not known whether it was done."""


class User:
    def __init__(self, world: World) -> None:
        self.world = world
        self.source = random.Random(f"{world.source.random()} user")
        self.acknowledged = 0
        self.asked = 0
        self.counts: dict[str, int] = {}
        """By operation: how often it was acknowledged."""

    async def ask(
        self, method: str, path: str, body: Any = None, *, query: str = "", media_type: str = "application/json"
    ) -> Answer | None:
        """The answer; None when volantd went away or is not there."""
        world = self.world
        app, life = world.app, world.current
        if app is None or life is None:
            return None
        self.asked += 1
        what = f"{method} {path}{'?' + query if query else ''}"
        world.trace.add(f"ask {what} {_brief(body)}")
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await ask(app, life, method, path, body, query=query, media_type=media_type)
        except Gone:
            world.trace.add(f"no answer to {what}")
            return None
        except TimeoutError:
            raise Broken(f"{what} was not answered within {ANSWER_S:g} s") from None
        detail = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
        world.trace.add(f"answer {answer.status} to {what} {detail}")
        if answer.status == 500 and "injected" not in str(answer.body):
            raise Broken(f"{what} was answered with {answer.body}")
        if answer.status < 400:
            self.counts[name_operation(method, path)] = self.counts.get(name_operation(method, path), 0) + 1
        if answer.status < 400 and method != "GET":
            self.acknowledged += 1
            self._check_kept(what, answer)
        return answer

    async def insist(self, method: str, path: str, body: Any = None, *, query: str = "", good: tuple[int, ...] = ()) -> Answer:
        """Ask until it is done, or was done before (``good``)."""
        for _ in range(200):
            answer = await self.ask(method, path, body, query=query)
            if answer is not None and (answer.status < 400 or answer.status in good):
                return answer
            if answer is not None and answer.status not in UNSURE and answer.status != 409:
                raise Broken(f"{method} {path} was refused: {answer.body}")
            await asyncio.sleep(1.0)
        raise Broken(f"{method} {path} did not get done")

    def _check_kept(self, what: str, answer: Answer) -> None:
        """What was acknowledged was committed before, and nothing took it back."""
        body = answer.body
        if isinstance(body, dict) and "resource" in body:
            body = body["resource"]
        if not isinstance(body, dict) or "uid" not in body or "revision" not in body:
            return
        if self.world.registry.revision < int(str(body["revision"]).rpartition("-")[2]):
            raise Broken(f"{what} was acknowledged at revision {body['revision']}, which was never committed")
        key = self.world.registry.by_uid.get(body["uid"])
        if key is None:
            return  # deleted since
        now = self.world.registry.records[key]["meta"]["generation"]
        if now < body["generation"]:
            raise Broken(f"{what} was acknowledged as generation {body['generation']} of {key}, which has {now}")


def _brief(body: Any) -> str:
    if not isinstance(body, dict):
        return "" if body is None else str(body)
    return " ".join(f"{key}={value}" for key, value in sorted(body.items()) if not isinstance(value, dict | list))[:200]


def name_operation(method: str, path: str) -> str:
    """``POST vms``, ``POST vms/NAME/stop``: what was asked, whatever it was about."""
    kind, *rest = path.removeprefix("/api/v1/").split("/")
    return f"{method} {'/'.join((kind, *('NAME' for _ in rest[:1]), *rest[1:]))}"
