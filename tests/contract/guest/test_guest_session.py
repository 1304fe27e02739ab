"""How a session begins and ends, byte by byte, as tests/vectors/guest-protocol/session.json has it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from volant.guest.frame import Flag, Frame, FrameDecoder, FrameType, GoAwayCode, encode_ping
from volant.guest.preamble import ANSWER_BYTES, HOST_MAGIC, ZERO_SECRET

sys.path.insert(0, str(Path(__file__).parent))
from guest_agents import KestrelTest, Simulated, begin

VECTORS = Path(__file__).parents[2] / "vectors" / "guest-protocol" / "session.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())["cases"]
TYPES = {"data": FrameType.DATA, "window": FrameType.WINDOW_UPDATE, "ping": FrameType.PING, "go_away": FrameType.GO_AWAY}
LAST_PING = 0x5E5E5E5E


def expand(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"\(([0-9a-f]{2})\*(\d+)\)", lambda match: match.group(1) * int(match.group(2)), text))


async def read_until(reader: asyncio.StreamReader, *wanted: Frame) -> None:
    """Read frames until all of ``wanted`` have come, among others and in any order."""
    decoder = FrameDecoder()
    seen: list[Frame] = []
    async with asyncio.timeout(10):
        while not all(frame in seen for frame in wanted):
            data = await reader.read(65536)
            assert data, f"closed before all of {wanted}; came: {seen}"
            seen.extend(decoder.feed(data))


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "_") for case in CASES])
async def test_session_vectors(agent: Simulated | KestrelTest, case: dict[str, Any]) -> None:
    sent = expand(case["hex"])
    async with agent.raw_session() as (reader, writer):
        writer.write(sent)
        if "violation" in case:
            await read_until(reader, Frame(FrameType.GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR))
        elif sent[-12:-10] != bytes([0, FrameType.GO_AWAY]):
            writer.write(encode_ping(LAST_PING, Flag.SYN))
            answers = [
                Frame(TYPES[answer["type"]], sum(Flag[name] for name in answer["flags"]), answer["stream"], answer["length"])
                for answer in case["answers"]
            ]
            await read_until(reader, Frame(FrameType.PING, Flag.ACK, 0, LAST_PING), *answers)
        # However it ended, the next preamble on the same connection begins another session.
        await begin(reader, writer, ZERO_SECRET)
        writer.write(encode_ping(1, Flag.SYN))
        await read_until(reader, Frame(FrameType.PING, Flag.ACK, 0, 1))


async def test_noise_and_wrong_secrets_begin_nothing(agent: Simulated | KestrelTest) -> None:
    reader, writer = await agent.open()
    try:
        for noise in (b"noise", HOST_MAGIC + b"\x01" * 48, b"VOLANT\x00\x02" + bytes(48)):
            writer.write(noise)
        assert len(await begin(reader, writer, ZERO_SECRET)) == ANSWER_BYTES
    finally:
        writer.close()
        await writer.wait_closed()
