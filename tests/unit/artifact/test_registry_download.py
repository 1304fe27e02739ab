"""Blobs over bad connections: resumed, bounded, and only kept when they are what their digest says."""

from __future__ import annotations

import os
from pathlib import Path

import httpx2
import pytest

from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.documents import Descriptor
from volant.artifact.registry.download import Pace
from volant.artifact.registry.patience import Interrupted
from volant.artifact.registry.reference import parse_image_reference
from volant.artifact.registry.settings import Endpoint, MirrorEndpoint, RegistrySettings
from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, NotFound, TooLarge, Unavailable

from .registry_fake import HOST, FakeRegistry, InstantClock, answer_once, break_blob, digest_of, open_client, refuse

MIB = 1024 * 1024
CONTENT = os.urandom(3 * MIB + 12345)
REFERENCE = parse_image_reference(f"{HOST}/images/web:1")


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry()
    registry.add_blob(CONTENT)
    return registry


def blob(content: bytes = CONTENT, size: int | None = None) -> Descriptor:
    return Descriptor(digest=digest_of(content), size=len(content) if size is None else size)


def ranges(registry: FakeRegistry) -> list[str]:
    return [request.headers.get("range", "") for request in registry.requests]


async def read(client: RegistryClient, wanted: Descriptor) -> bytes:
    return b"".join([piece async for piece in client.open_blob(REFERENCE, wanted)])


async def test_a_broken_transfer_goes_on_where_it_broke(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.hooks += [break_blob(CONTENT, MIB + 5), break_blob(CONTENT, 0), break_blob(CONTENT, 7)]
    clock = InstantClock()
    async with open_client(registry, clock=clock) as client:
        assert await client.fetch_blob(REFERENCE, blob(), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == CONTENT
    assert ranges(registry) == ["", f"bytes={MIB + 5}-", f"bytes={MIB + 5}-", f"bytes={MIB + 12}-"]
    assert clock.slept == [0.5, 1.0, 2.0]
    assert os.listdir(tmp_path) == ["blob"]


async def test_a_stream_is_resumed_inside_also_by_a_registry_that_knows_no_ranges(registry: FakeRegistry) -> None:
    registry.takes_ranges = False
    registry.hooks.append(break_blob(CONTENT, 2 * MIB + 1))
    async with open_client(registry) as client:
        assert await read(client, blob()) == CONTENT


async def test_an_end_too_early_is_an_interruption_and_not_the_end(registry: FakeRegistry) -> None:
    path = f"/blobs/{digest_of(CONTENT)}"

    async def cut() -> object:
        yield CONTENT[:1000]

    registry.hooks.append(answer_once(path, lambda: httpx2.Response(200, content=cut())))
    async with open_client(registry) as client:
        assert await read(client, blob()) == CONTENT
    assert ranges(registry) == ["", "bytes=1000-"]


async def test_a_later_process_takes_up_what_an_earlier_one_got(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.hooks += [break_blob(CONTENT, 2 * MIB)] + [break_blob(CONTENT, 0)] * 6
    async with open_client(registry) as client:
        with pytest.raises(Unavailable, match="peer closed connection"):
            await client.fetch_blob(REFERENCE, blob(), tmp_path / "blob")
    assert [os.stat(tmp_path / name).st_size for name in os.listdir(tmp_path)] == [2 * MIB]
    registry.requests.clear()
    registry.hooks.clear()
    reported: list[tuple[int, int]] = []
    async with open_client(registry) as client:
        await client.fetch_blob(
            REFERENCE, blob(), tmp_path / "blob", report=lambda _, done, total: reported.append((done, total))
        )
    assert ranges(registry) == [f"bytes={2 * MIB}-"]
    assert reported[0] == (2 * MIB, len(CONTENT)) and reported[-1] == (len(CONTENT), len(CONTENT))
    assert (tmp_path / "blob").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * MIB, b"x" * (len(CONTENT) + 1), CONTENT[:-1] + b"!"])
async def test_what_lay_there_and_was_wrong_costs_one_more_transfer(registry: FakeRegistry, tmp_path: Path, left: bytes) -> None:
    (tmp_path / f"{digest_of(CONTENT).removeprefix('sha256:')}.partial").write_bytes(left)
    async with open_client(registry) as client:
        await client.fetch_blob(REFERENCE, blob(), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == CONTENT
    assert len(registry.requests) <= 2


async def test_wrong_content_is_refused_and_nothing_of_it_is_kept(registry: FakeRegistry, tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    registry.blobs[digest_of(CONTENT)] = wrong
    async with open_client(registry) as client:
        with pytest.raises(ChecksumMismatch, match=digest_of(wrong)):
            await client.fetch_blob(REFERENCE, blob(), tmp_path / "blob")
        with pytest.raises(ChecksumMismatch, match=digest_of(wrong)):
            await read(client, blob())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_another_size_than_promised_is_refused_before_it_is_read(registry: FakeRegistry, tmp_path: Path, size: int) -> None:
    async with open_client(registry) as client:
        with pytest.raises(ChecksumMismatch, match=f"has {len(CONTENT)} bytes"):
            await client.fetch_blob(REFERENCE, blob(size=size), tmp_path / "blob")
    assert os.listdir(tmp_path) == []


async def test_a_registry_that_does_not_stop_is_stopped(registry: FakeRegistry) -> None:
    async def endless() -> object:
        while True:
            yield bytes(65536)

    registry.hooks.append(answer_once(digest_of(CONTENT), lambda: httpx2.Response(200, content=endless())))
    async with open_client(registry) as client:
        with pytest.raises(ChecksumMismatch, match="more than"):
            await read(client, blob())


async def test_descriptors_that_cannot_be_are_refused_before_anything_is_asked(registry: FakeRegistry, tmp_path: Path) -> None:
    async with open_client(registry) as client:
        for wanted, error in (
            (Descriptor(digest="sha256:../../x", size=1), InvalidInput),  # type: ignore[arg-type]  # what a registry may say
            (Descriptor(digest=digest_of(b""), size=-1), InvalidInput),
            (Descriptor(digest=digest_of(b""), size=1 << 60), TooLarge),
        ):
            with pytest.raises(error):
                await client.fetch_blob(REFERENCE, wanted, tmp_path / "blob")
    assert registry.requests == []


async def test_busy_registries_are_waited_for_as_they_ask_but_not_for_ever(registry: FakeRegistry) -> None:
    path = digest_of(CONTENT)
    registry.hooks += [
        answer_once(path, lambda: refuse(429, "TOOMANYREQUESTS", **{"Retry-After": "7"})),
        answer_once(path, lambda: refuse(503, **{"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"})),
        answer_once(path, lambda: refuse(500, **{"Retry-After": "86400"})),
    ]
    clock = InstantClock()
    async with open_client(registry, clock=clock) as client:
        assert await read(client, blob()) == CONTENT
    assert clock.slept == [7.0, 23.0, 60.0]


async def test_after_the_last_attempt_the_registrys_own_words_are_told(registry: FakeRegistry) -> None:
    registry.hooks += [answer_once(digest_of(CONTENT), lambda: refuse(429, "TOOMANYREQUESTS"))] * 3
    clock = InstantClock()
    async with open_client(registry, clock=clock, settings=RegistrySettings(attempts=3)) as client:
        with pytest.raises(Unavailable, match=r"429.*toomanyrequests") as refused:
            await read(client, blob())
    assert refused.value.hint is not None and len(clock.slept) == 2


async def test_a_stalled_registry_is_given_up(registry: FakeRegistry) -> None:
    registry.hooks += [break_blob(CONTENT, 100, httpx2.ReadTimeout("")) for _ in range(3)]
    async with open_client(registry, settings=RegistrySettings(attempts=3)) as client:
        with pytest.raises(Unavailable, match="stalled"):
            await read(client, blob())


async def test_a_registry_that_drips_is_as_good_as_stalled() -> None:
    clock = InstantClock()
    pace = Pace(256, 30, clock)
    endpoint = Endpoint(HOST, "web")
    for _ in range(100):
        clock._elapsed_s += 1
        pace.count(256, endpoint)
    with pytest.raises(Interrupted, match="stalled"):
        for _ in range(61):
            clock._elapsed_s += 1
            pace.count(1, endpoint)


async def test_mirrors_are_asked_first_and_their_failures_passed_over(tmp_path: Path) -> None:
    good, lying, empty = FakeRegistry(), FakeRegistry(), FakeRegistry()
    good.add_blob(CONTENT)
    lying.blobs[digest_of(CONTENT)] = b"x" * len(CONTENT)
    by_host = {HOST: good, "lying.example.org": lying, "empty.example.org": empty}
    mirrors = (MirrorEndpoint("empty.example.org"), MirrorEndpoint("lying.example.org", "hub"))

    async def handle(request: httpx2.Request) -> httpx2.Response:
        return await by_host[request.url.host].handle(request)

    async with open_client(handle, settings=RegistrySettings(mirrors={HOST: mirrors})) as client:
        await client.fetch_blob(REFERENCE, blob(), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == CONTENT
    assert [len(registry.requests) for registry in (empty, lying, good)] == [1, 1, 1]
    assert lying.requests[0].url.path.startswith("/v2/hub/images/web/blobs/")
    assert good.requests[0].headers.get("range") is None


async def test_what_is_not_there_is_not_asked_for_again(registry: FakeRegistry) -> None:
    clock = InstantClock()
    async with open_client(registry, clock=clock) as client:
        with pytest.raises(NotFound, match="blob_unknown"):
            await read(client, blob(b"other"))
    assert clock.slept == [] and len(registry.requests) == 1


async def test_long_zeros_become_holes(registry: FakeRegistry, tmp_path: Path) -> None:
    content = bytes(8 * MIB) + b"end" + bytes(2 * MIB)
    registry.add_blob(content)
    async with open_client(registry) as client:
        await client.fetch_blob(REFERENCE, blob(content), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == content
    assert (tmp_path / "blob").stat().st_blocks * 512 <= 4 * MIB


async def test_a_directory_that_cannot_be_written_is_named(registry: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with open_client(registry) as client:
        with pytest.raises(HostError, match="file"):
            await client.fetch_blob(REFERENCE, blob(), tmp_path / "file" / "blob")
