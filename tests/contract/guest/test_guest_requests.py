"""What is answered on the control stream, as tests/vectors/guest-protocol/request.json has it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from volant.guest.message import MessageDecoder, decode_body, encode_message
from volant.guest.protocol import OpenControl
from volant.guest.session import Session
from volant.guest.stream import Stream

sys.path.insert(0, str(Path(__file__).parent))
from guest_agents import KestrelTest, Simulated

VECTORS = Path(__file__).parents[2] / "vectors" / "guest-protocol" / "request.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())["cases"]


class Talk:
    """A control stream, message by message."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = MessageDecoder()
        self._number = 0

    async def take_step(self, step: dict[str, Any]) -> None:
        if "wait" in step:
            notice: dict[str, Any] = {}
            while any(notice.get(name) != value for name, value in step["wait"].items()):
                notice = await self._read()
            return
        self._number += 1
        await self._stream.write(encode_message({"id": self._number, **step["request"]}))
        while (answer := await self._read()).get("re") != self._number:
            pass
        if "ok" in step:
            assert answer.get("ok") == step["ok"], answer
        else:
            assert answer["error"]["code"] == step["error"], answer
            assert answer["error"]["message"].startswith(step.get("about", "")), answer

    async def _read(self) -> dict[str, Any]:
        while (body := self._decoder.next_body()) is None:
            data = await self._stream.read()
            assert data, "the control stream was closed"
            self._decoder.feed(data)
        return decode_body(body)


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "_") for case in CASES])
async def test_request_vectors(agent: Simulated | KestrelTest, case: dict[str, Any]) -> None:
    async with agent.raw_session() as (reader, writer), asyncio.timeout(20):
        session = Session(reader, writer, agent.clock)
        stream = session.open_stream()
        receiving = asyncio.ensure_future(session.receive(b""))
        try:
            await stream.write(encode_message(OpenControl(client="test/1")))
            talk = Talk(stream)
            for step in case["steps"]:
                await talk.take_step(step)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
