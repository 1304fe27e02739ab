"""Images that a script of the recipe makes: run once, kept under the digest of the script and of what it reads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import digest_tree
from volant.fledge.progress import Progress
from volant.fledge.source.oci import read_image
from volant.run import run

FORMAT = 1
SCRIPT_TIMEOUT_S = 3600.0


@asynccontextmanager
async def open_scripted_layout(
    cache: Cache, *, script: str, inputs: tuple[str, ...], base: Path, epoch_s: int, progress: Progress
) -> AsyncIterator[Path]:
    """The OCI layout that ``script`` left in the directory it was given, in the cache.

    It runs in ``base`` with one argument, an empty directory for the layout. ``SOURCE_DATE_EPOCH`` is set, and ``TMPDIR`` to
    a directory that is removed afterwards.

    Raises:
        InvalidInput: the script or an input is missing. HostError: it failed, or left no image.
    """
    path = base / script
    if not path.is_file():
        raise InvalidInput(f"source.script {script!r}: there is no file {path}", field="source.script")
    if not os.access(path, os.X_OK):
        raise InvalidInput(f"source.script {script!r} cannot be run", field="source.script", hint=f"chmod +x {path}")
    try:
        digests = await asyncio.to_thread(lambda: [digest_tree(path), *(digest_tree(base / name) for name in inputs)])
    except OSError as error:
        raise InvalidInput(
            f"source.script_inputs: {error.filename} cannot be read: {error.strerror}", field="source.script_inputs"
        ) from error

    async def make(target: Path, workspace: Workspace) -> None:
        scratch = workspace.path / "tmp"
        scratch.mkdir()
        with progress.step(f"Running {script}"):
            try:
                await run(
                    [path.absolute(), target],
                    timeout_s=SCRIPT_TIMEOUT_S,
                    cwd=base,
                    env={"SOURCE_DATE_EPOCH": str(epoch_s), "TMPDIR": str(scratch)},
                    pass_fds=(workspace.lock_fd,),
                )
            except CommandFailed as error:
                raise HostError(f"source.script: {error}", hint=f"run {path} by hand to see all it says") from error
            try:
                await asyncio.to_thread(read_image, target)
            except InvalidInput as error:
                raise HostError(f"source.script {script!r} left no OCI image in the directory it was given: {error}") from error

    key = derive_key("script", FORMAT, script, digests, inputs, epoch_s)
    async with cache.entry("scripts", key, make) as entry:
        yield entry
