from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agent import AGENT, Agent, Page


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    if not AGENT.is_file() and "VOLANT_KESTREL_TEST" not in os.environ:
        pytest.skip("kestrel-test is not built: make -C native test-agent")
    started = Agent(tmp_path / "agent.sock")
    yield started
    started.close()


@pytest.fixture
def page() -> Iterator[int]:
    Page.status = 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
