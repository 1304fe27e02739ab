"""``fledge build --verify``: the same once more, under conditions that must not matter, and what came out otherwise."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, HostError
from volant.fledge.build import Built, Job
from volant.fledge.build_record import MANIFEST
from volant.fledge.filesystems.choice import REPEATABLE
from volant.fledge.kept.choose import compare_files
from volant.fledge.kept.compare import Difference
from volant.fledge.kept.examine import find_files
from volant.fledge.kept.keeping import locate_files
from volant.fledge.rootfs import choose_filesystem
from volant.fledge.workshop import Workshop
from volant.run import run

AGAIN_TIMEOUT_S = 4 * 3600.0
SHOWN_MAX = 5

SHARED = ("agents", "busybox", "busyboxes", "debs", "kernel", "layers", "linux-source", "local-images", "minimal", "resolved")
"""Kinds of the cache that hold what was fetched, or takes long to compile and is checked by its own digests."""

_OTHERWISE = {"TZ": "Pacific/Kiritimati", "LANG": "C", "HOME": "/nonexistent"}


async def build_again(job: Job, built: Built, workshop: Workshop) -> None:
    """Build ``job`` a second time and compare with ``built``.

    The second build has another cache, so that it makes everything itself; it is in another place, on another file system where
    there is one; it has another time zone, home, language and host name; and begins at another time.

    Raises:
        HostError: the two differ; the message says where first. VolantError: the second build failed.
    """
    filesystem = choose_filesystem(job.recipe.filesystem)
    if job.recipe.strategy == "oci_rootfs" and filesystem.type not in REPEATABLE:
        raise HostError(
            f"no two builds of an {filesystem.type} are the same", hint=f"choose one of {', '.join(sorted(REPEATABLE))} to verify"
        )
    with workshop.progress.step("Building a second time") as step, _elsewhere(workshop) as place:
        order = place / "job.json"
        order.write_bytes(msgspec.json.encode(msgspec.structs.replace(job, output=place / "out"), enc_hook=str))
        try:
            # The name of the host is another one for the time of this.
            await run(
                ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$0" -m volant.fledge.kept.again "$@"',
                 sys.executable, order, place / "cache"],
                timeout_s=AGAIN_TIMEOUT_S,
                env={**_OTHERWISE, "TMPDIR": str(place), **_pass_on()},
                cwd=place,
            )  # fmt: skip
        except CommandFailed as error:
            said = [line for line in error.stderr_tail.splitlines() if line.strip()]
            raise HostError(f"the second build failed: {said[-1] if said else error}") from error
        step.detail = "comparing"
        found = await _compare(built, place / "out", workshop)
    if found:
        raise HostError(
            f"two builds differ in {len(found)} places: {'; '.join(map(_show, found[:SHOWN_MAX]))}",
            hint="what makes it so is in the source: look at what writes those files",
        )
    workshop.progress.note("two builds are the same to the byte")


async def _compare(built: Built, other: Path, workshop: Workshop) -> list[Difference]:
    image = await workshop.shelf.find(built.digest)
    # One of the two may have been built with a name for its directory; the files are what counts.
    return await asyncio.to_thread(lambda: list(compare_files(locate_files(image, workshop), find_files(other / MANIFEST))))


@contextmanager
def _elsewhere(workshop: Workshop) -> Iterator[Path]:
    """A directory on another file system than the cache's, if there is one with room, with the shared parts of the cache."""
    own = workshop.cache.root.stat().st_dev
    others = [Path(text) for text in ("/dev/shm", "/var/tmp", "/tmp") if Path(text).is_dir()]  # noqa: S108  # private by mkdtemp
    chosen = next((path for path in others if path.stat().st_dev != own and _has_room(path)), None)
    with tempfile.TemporaryDirectory(prefix="fledge-again-", dir=chosen) as name:
        cache = Path(name) / "cache"
        cache.mkdir(mode=0o700)
        for kind in SHARED:
            (workshop.cache.root / kind).mkdir(mode=0o700, exist_ok=True)
            (cache / kind).symlink_to(workshop.cache.root / kind)
        yield Path(name)


def _has_room(path: Path) -> bool:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize > 8 << 30


def _pass_on() -> dict[str, str]:
    wanted = ("SOURCE_DATE_EPOCH", "FLEDGE_REGISTRIES", "VOLANT_KESTREL", "VOLANT_SETTLE", "REGISTRY_AUTH_FILE")
    return {name: os.environ[name] for name in wanted if name in os.environ}


def _show(one: Difference) -> str:
    return f"{one.part} {one.at} ({one.what})"


def _main(order: Path, cache_directory: Path) -> None:
    """The second build, in a process of its own."""
    from volant.core.errors import VolantError
    from volant.fledge.build import build
    from volant.fledge.cache import Cache
    from volant.fledge.progress import Progress
    from volant.fledge.workshop import make_workshop

    job = msgspec.json.decode(order.read_bytes(), type=Job, dec_hook=lambda kind, value: kind(value))
    os.umask(0o022)
    progress = Progress(sys.stderr, quiet=True)
    workshop = make_workshop(Cache(cache_directory), cache_directory / "artifacts", progress)
    try:
        asyncio.run(build(job, workshop))
    except VolantError as error:
        sys.exit(f"fledge: {error.message}" + (f" ({error.hint})" if error.hint else ""))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
