"""Writes to the store at argv[1] as fast as it can and prints the name of each write that was acknowledged, until killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from volant.core.clock import HostClock
from volant.core.errors import DiskFull
from volant.store.contract import Create, Key
from volant.store.sqlite import SqliteStore, open_store


async def write(store: SqliteStore, writer: int) -> None:
    for number in range(1_000_000):
        name = f"{writer}-{number}"
        try:
            await store.transact([Create(Key("vm", "p", f"{name}-{part}"), {"value": "x" * 200}) for part in "ab"])
        except DiskFull:
            os.write(1, b"full\n")
            return
        os.write(1, f"{name}\n".encode())


async def main() -> None:
    async with open_store(Path(sys.argv[1]), HostClock()) as store:
        await asyncio.gather(*(write(store, writer) for writer in range(8)))


asyncio.run(main())
