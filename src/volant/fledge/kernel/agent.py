"""Which kestrel goes into a guest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from volant import __version__
from volant.core.errors import InvalidInput
from volant.fledge.cache import Workspace
from volant.fledge.fetch import fetch_file
from volant.fledge.recipe.record import AgentSection
from volant.fledge.workshop import Workshop
from volant.native import find_native

AGENT = "kestrel"
AGENT_MAX_BYTES = 64 * 1024 * 1024
_OWN = ("", "latest", __version__, f"v{__version__}")


@asynccontextmanager
async def open_agent(workshop: Workshop, section: AgentSection | None, base: Path) -> AsyncIterator[Path]:
    """The program that ``[agent]`` names: fledge's own, a file here, or one that is fetched and checked.

    Raises:
        InvalidInput: it is not there, or fledge does not bring that version. ChecksumMismatch: it is another file than was named.
        Unavailable: fledge's own is not built.
    """
    if section is None or section.source_strategy == "release":
        if section is not None and section.version not in _OWN:
            raise InvalidInput(
                f"this fledge brings kestrel {__version__}, not {section.version}",
                field="agent.version",
                hint='write version = "latest", or name a file with source_strategy = "local"',
            )
        yield find_native("kestrel")
    elif section.source_strategy == "local":
        path = base / section.path
        if not await asyncio.to_thread(path.is_file):
            raise InvalidInput(f"agent.path: there is no file {path}", field="agent.path")
        yield path
    else:
        if not section.checksum:
            raise InvalidInput(
                "the first program of every guest is not fetched without a checksum",
                field="agent.checksum",
                hint='write checksum = "sha256:…"',
            )
        url, wanted = section.url, section.checksum.removeprefix("sha256:")

        async def fetch(target: Path, _workspace: Workspace) -> None:
            with workshop.progress.step(f"Fetching {url}"):
                await fetch_file(url, target / AGENT, sha256=wanted, max_bytes=AGENT_MAX_BYTES, field="agent.url")

        async with workshop.cache.entry("agents", wanted, fetch) as entry:
            yield entry / AGENT
