from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from guest_agents import KestrelTest, Simulated, make_agent


@pytest.fixture(params=["simulated", "kestrel-test"])
async def agent(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Simulated | KestrelTest]:
    """A guest whose agent has opened its port and waits."""
    made = await make_agent(request.param, tmp_path)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def linked(agent: Simulated | KestrelTest) -> AsyncIterator[Simulated | KestrelTest]:
    """The same, with its link running."""
    running = asyncio.ensure_future(agent.link.run())
    try:
        yield agent
    finally:
        running.cancel()
        ended = (await asyncio.gather(running, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError), ended
