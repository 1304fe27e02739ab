"""What is asked twice under one Idempotency-Key is done once, also when volantd is killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.sim.host import World, reach

from volant.api.app import build_app
from volant.api.listen import bind_socket
from volant.api.server import serve
from volant.client.aio.connection import Answer, Connection
from volant.core.errors import AnswerLost, InProgress, InvalidInput, KeyReused, Malformed
from volant.core.ids import Uid
from volant.intent.kept_answers import KIND, Attempt
from volant.plane import ControlPlane

VMS = "/api/v1/vms"
WEB = {"name": "web", "plugin": "nginx"}
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


class Volantd:
    def __init__(self, plane: ControlPlane, connection: Connection) -> None:
        self.plane = plane
        self.connection = connection

    async def post(self, path: str, document: Any = None, headers: dict[str, str] | None = None, **query: Any) -> Answer:
        return await self.connection.request("POST", path, document=document, headers=headers or KEY, query=query)


@asynccontextmanager
async def volantd(world: World) -> AsyncIterator[Volantd]:
    """One life of a volantd on the host ``world``."""
    path = world.root / "v.sock"
    async with world.plane() as (plane, _):
        listening = asyncio.Event()
        with bind_socket(path) as bound:
            app = build_app(plane.intents, plane.node, "0")
            serving = asyncio.create_task(serve(app, [bound], on_listening=listening.set, grace_s=1))
            await listening.wait()
            try:
                yield Volantd(plane, Connection(f"unix://{path}", retry_s=0))
            finally:
                serving.cancel()
                await asyncio.wait({serving})
                assert plane.intents.kept_answers is not None
                await plane.intents.kept_answers.settle()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.prepare()
    async with made.plane() as (plane, _):
        await plane.intents.plugins.install(made.manifest())
    yield made
    await made.host.close()


async def test_the_same_request_gets_the_same_answer(world: World) -> None:
    async with volantd(world) as first:
        made = await first.post(VMS, WEB)
        again = await first.post(VMS, WEB)
        assert (made.status, "Volant-Replayed" in made.headers) == (201, False)
        assert (again.status, again.headers["Volant-Replayed"], again.content) == (201, "true", made.content)
        assert again.headers["ETag"] == made.headers["ETag"]
        assert again.headers["Volant-Request-Id"] != made.headers["Volant-Request-Id"]
    async with volantd(world) as second:
        after = await second.post(VMS, WEB)
        assert (after.status, after.content, after.headers["Location"]) == (201, made.content, "/api/v1/vms/web")
        assert len((await second.plane.intents.vms.list())[0]) == 1


async def test_a_key_stands_for_one_request(world: World) -> None:
    async with volantd(world) as running:
        await running.post(VMS, WEB)
        with pytest.raises(KeyReused):
            await running.post(VMS, {**WEB, "name": "other"})
        with pytest.raises(KeyReused):
            await running.post(f"{VMS}/web/restart")
        with pytest.raises(KeyReused):
            await running.post(VMS, WEB, wait="ready")
        for wrong in ("", '"', "two words", "x" * 256):
            with pytest.raises(Malformed):
                await running.post(VMS, WEB, {"Idempotency-Key": wrong})
        assert len((await running.plane.intents.vms.list())[0]) == 1


async def test_one_that_is_not_answered_yet_is_not_done_beside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with volantd(world) as running:
        entered, go_on = asyncio.Event(), asyncio.Event()
        create = running.plane.intents.vms.create

        async def slow(*arguments: Any, **more: Any) -> Any:
            entered.set()
            await go_on.wait()
            return await create(*arguments, **more)

        monkeypatch.setattr(running.plane.intents.vms, "create", slow)
        first = asyncio.create_task(running.post(VMS, WEB))
        await entered.wait()
        with pytest.raises(InProgress):
            await running.post(VMS, WEB)
        go_on.set()
        assert (await first).status == 201
        assert (await running.post(VMS, WEB)).headers["Volant-Replayed"] == "true"


async def test_what_was_refused_may_be_asked_again(world: World) -> None:
    async with volantd(world) as running:
        with pytest.raises(InvalidInput, match="no plugin"):
            await running.post(VMS, {**WEB, "plugin": "late"})
        await running.plane.intents.plugins.install(world.manifest("late"))
        assert (await running.post(VMS, {**WEB, "plugin": "late"})).status == 201


async def test_killed_before_the_answer_was_kept_it_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with volantd(world) as first:
        vm = (await first.post(VMS, WEB, {"Idempotency-Key": "make"})).json()
        await reach(first.plane, "web", lambda vm: vm.status.ready)
        # As if volantd were killed between the effect and the record of its answer.
        monkeypatch.setattr(first.plane.intents.kept_answers, "finish", lambda attempt, answer: None)
        forked = await first.post(f"{VMS}/web/fork", {"names": ["web-1"]}, {"Idempotency-Key": "fork"})
        assert forked.status == 201
        restarted = (await first.post(f"{VMS}/web/restart")).json()
        marks = (await first.plane.store.list(KIND, "")).items
        assert sorted(mark.data["spec"]["status"] for mark in marks) == [0, 0, 201]
    async with volantd(world) as second:
        again = await second.post(f"{VMS}/web/restart")
        assert (again.status, again.json()["restart_token"]) == (200, restarted["restart_token"])
        assert (await second.plane.intents.vms.get("web")).spec.restart_token == 1
        # The second time there is an answer to be had.
        assert (await second.post(f"{VMS}/web/restart")).headers["Volant-Replayed"] == "true"
        with pytest.raises(AnswerLost):
            await second.post(f"{VMS}/web/fork", {"names": ["web-1"]}, {"Idempotency-Key": "fork"})
        assert sorted(vm.name for vm in (await second.plane.intents.vms.list())[0]) == ["web", "web-1"]
        assert (await second.plane.intents.vms.get("web")).uid == Uid(vm["uid"])


async def test_keys_go_when_they_are_old_or_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.intent.kept_answers.KEPT_MAX", 3)
    async with volantd(world) as running:
        kept = running.plane.intents.kept_answers
        assert kept is not None
        for number in range(6):
            await running.post(f"{VMS}", {**WEB, "name": f"web-{number}"}, {"Idempotency-Key": f"key-{number}"})
            await kept.settle()
        assert len((await running.plane.store.list(KIND, "")).items) == 3
        assert (await running.post(VMS, {**WEB, "name": "web-5"}, {"Idempotency-Key": "key-5"})).status == 201
        monkeypatch.setattr("volant.intent.kept_answers.KEPT_S", 0.0)
        begun = await kept.begin(f"uid {0}", "key-5", b"something else")
        assert isinstance(begun, Attempt)
        kept.finish(begun, None)
