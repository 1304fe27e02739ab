"""What every command of fledge that makes something has: a cache, progress, and an end when it is told to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from volant.fledge.cache import Cache
    from volant.fledge.progress import Progress

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class Session:
    cache_dir: Path | None
    no_cache: bool
    as_json: bool
    quiet: bool

    def run(self, work: Callable[[Cache, Progress], Awaitable[ResultT]]) -> ResultT:
        """What ``work`` returns. SIGTERM and SIGINT cancel it, so that nothing half made stays."""
        import asyncio
        import signal

        from volant.fledge.cache import Cache, default_cache_directory
        from volant.fledge.progress import Progress

        async def run_work() -> ResultT:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            cache = Cache(self.cache_dir or default_cache_directory(), reuse=not self.no_cache)
            return await work(cache, Progress(sys.stderr, quiet=self.quiet))

        # Directories that an image only implies are made by tools that heed it.
        os.umask(0o022)
        try:
            return asyncio.run(run_work())
        except asyncio.CancelledError as error:
            raise click.Abort from error


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all share, as one Session in front of its own."""

    @click.option("--cache-dir", type=click.Path(path_type=Path), help="Instead of $FLEDGE_CACHE or the user's cache directory.")
    @click.option("--no-cache", is_flag=True, help="Make everything anew and replace what was kept.")
    @click.option("--json", "as_json", is_flag=True, help="Print the record of what was made instead.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
    @functools.wraps(command)
    def wrapped(cache_dir: Path | None, no_cache: bool, as_json: bool, quiet: bool, **own: Any) -> None:
        command(Session(cache_dir=cache_dir, no_cache=no_cache, as_json=as_json, quiet=quiet), **own)

    return wrapped
