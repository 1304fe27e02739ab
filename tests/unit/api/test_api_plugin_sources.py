"""Installing from a source through the API: progress, answers, and what ends it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from volant.client.client import Client
from volant.client.connection import Connection
from volant.core.errors import ChecksumMismatch, InvalidInput, Unavailable, Untrusted, VolantError
from volant.core.plugin_source import FetchProgress

from .served import Served

SOURCE = "oci://registry.example.org/web:1.0"
NDJSON = {"Accept": "application/x-ndjson"}


class Fetching:
    """What stands in for the intent. It reports ``progress``, waits for ``gate`` and installs, or raises ``error``."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.asked: list[tuple[str, str]] = []
        self.progress = [FetchProgress(file="rootfs", done_bytes=done, size_bytes=100) for done in (0, 60, 100)]
        self.error: VolantError | None = None
        self.created = True
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.waits_for_ever = False

    async def install_from(
        self,
        source: str,
        checksum: str = "",
        *,
        report: Callable[[FetchProgress], None],
        how: Any = None,
        project: str = "default",
    ) -> Any:
        self.asked.append((source, checksum))
        for progress in self.progress:
            report(progress)
            await asyncio.sleep(0)
        self.begun.set()
        if self.waits_for_ever:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cancelled.set()
        if self.error is not None:
            raise self.error
        return await self._served.plane.add_plugin("web"), self.created


@pytest.fixture
def fetching(served: Served) -> Fetching:
    made = Fetching(served)
    served.plane.plugins.install_from = made.install_from  # type: ignore[attr-defined]
    return made


def test_the_client_hears_how_far_it_is(served: Served, fetching: Fetching) -> None:
    told: list[FetchProgress] = []
    plugin, created = Client(served.address).plugins.install_from(SOURCE, "sha256:x", on_progress=told.append)
    assert (plugin.name, created) == ("web", True)
    assert fetching.asked == [(SOURCE, "sha256:x")]
    assert told and told[-1].size_bytes == 100
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)


def test_one_document_is_the_answer_to_who_asks_for_no_lines(api: Connection, fetching: Fetching) -> None:
    answer = api.request("POST", "/api/v1/plugins", document={"source": SOURCE})
    assert (answer.status, answer.json()["name"], answer.headers["Location"]) == (201, "web", "/api/v1/plugins/web")
    fetching.created = False
    assert api.request("POST", "/api/v1/plugins", query={"wait": "ready"}, document={"source": SOURCE}).status == 200


def test_what_is_refused_at_once_is_refused_with_its_own_status(api: Connection, served: Served, fetching: Fetching) -> None:
    fetching.progress = []
    fetching.error = Untrusted("it is not signed", hint="sign it")
    for headers in ({}, NDJSON):
        with pytest.raises(Untrusted) as raised:
            api.request("POST", "/api/v1/plugins", document={"source": SOURCE}, headers=headers)
        assert raised.value.hint == "sign it"
    with pytest.raises(Untrusted):
        Client(served.address).plugins.install_from(SOURCE)


def test_what_goes_wrong_later_is_the_last_line(api: Connection, served: Served, fetching: Fetching) -> None:
    fetching.error = ChecksumMismatch("it is another one")
    answer = api.request("POST", "/api/v1/plugins", document={"source": SOURCE}, headers=NDJSON)
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert (lines[0]["file"], lines[-1]["code"]) == ("rootfs", "checksum_mismatch")
    with pytest.raises(ChecksumMismatch, match="another one"):
        Client(served.address).plugins.install_from(SOURCE)


@pytest.mark.parametrize("headers", [{}, NDJSON])
def test_who_goes_away_ends_it(api: Connection, fetching: Fetching, headers: dict[str, str]) -> None:
    fetching.waits_for_ever = True
    opened = api.stream("/api/v1/plugins", method="POST", document={"source": SOURCE}, headers=headers, timeout_s=0.3)
    with pytest.raises(VolantError), opened as stream:
        while stream.read_line(65536):
            pass
    assert fetching.begun.is_set()
    assert fetching.cancelled.wait(20)


def test_a_volantd_that_stops_says_so(served: Served, fetching: Fetching) -> None:
    fetching.waits_for_ever = True

    def stop() -> None:
        fetching.begun.wait(20)
        served.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(Unavailable):
        Client(served.address).plugins.install_from(SOURCE)
    stopping.join()
    assert fetching.cancelled.is_set()


@pytest.mark.parametrize(
    "document",
    [{"source": 1}, {"source": SOURCE, "checksum": None}, {"source": SOURCE, "manifest": {}}, {"source": SOURCE, "x": 1}],
)
def test_half_a_source_is_refused(api: Connection, fetching: Fetching, document: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        api.request("POST", "/api/v1/plugins", document=document)
    assert fetching.asked == []
