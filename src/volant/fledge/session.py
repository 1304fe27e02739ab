"""What every command of fledge that makes something has: a workshop, progress, and an end when it is told to."""

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
    from volant.fledge.workshop import Workshop

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
            return await work(cache, Progress(sys.stderr, quiet=self.quiet, as_json=self.as_json))

        # Directories that an image only implies are made by tools that heed it.
        os.umask(0o022)
        try:
            return asyncio.run(run_work())
        except asyncio.CancelledError as error:
            raise click.Abort from error

    def run_in_workshop(self, work: Callable[[Workshop], Awaitable[ResultT]], *, update_lock: bool = False) -> ResultT:
        """As ``run``, for what also needs the store."""

        async def run_work(cache: Cache, progress: Progress) -> ResultT:
            from volant.fledge.workshop import default_store_directory, make_workshop

            named = self.cache_dir or (Path(os.environ["FLEDGE_CACHE"]) if os.environ.get("FLEDGE_CACHE") else None)
            return await work(make_workshop(cache, default_store_directory(named), progress, update_lock=update_lock))

        return self.run(run_work)

    def print(self, document: object, text: str) -> None:
        """On stdout: ``document`` with --json, else ``text``."""
        if self.as_json:
            import msgspec

            click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
        elif text:
            click.echo(text)


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all share, as one Session in front of its own."""

    @click.option("--cache-dir", type=click.Path(path_type=Path), help="Instead of $FLEDGE_CACHE or the user's cache directory.")
    @click.option("--no-cache", is_flag=True, help="Make everything anew and replace what was kept.")
    @click.option("--json", "as_json", is_flag=True, help="Events on stderr and the result on stdout, as JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
    @functools.wraps(command)
    def wrapped(cache_dir: Path | None, no_cache: bool, as_json: bool, quiet: bool, **own: Any) -> None:
        command(Session(cache_dir=cache_dir, no_cache=no_cache, as_json=as_json, quiet=quiet), **own)

    return wrapped
