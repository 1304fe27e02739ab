"""buildah with storage of fledge's own: layers are kept between builds, and nothing of the user's storage is read or written.

ROOT/<kind>/store/      containers/storage: base images and the layer of every step
ROOT/<kind>/tmp/        buildah's temporary files, and its ``--mount=type=cache`` directories
ROOT/<kind>/running/    one file for each build that has not cleaned up behind itself
ROOT/<kind>/driver      ``overlay`` or ``vfs``, found out once
ROOT/<kind>/lock        shared while a build runs, exclusive while something is removed

buildah takes a kept layer for the result of a step whatever time and platform it was made for, so each of these is a kind of its
own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.fledge.cache import Workspace
from volant.fledge.dockerfile.containment import Contained, Report, run_contained
from volant.run import run

LOCK_RETRY_S = 0.05
HOUSEKEEPING_TIMEOUT_S = 300.0

_POLICY = Path("/etc/containers/policy.json")
_REGISTRIES = Path("/etc/containers/registries.conf")

# Without these a build would see the host's own names, mounts and limits.
_CONTAINERS_CONF = """\
[containers]
base_hosts_file = "none"
"""
_STORAGE_CONF = """\
[storage]
driver = "{driver}"
"""
_REGISTRIES_CONF = """\
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "127.0.0.1"
insecure = true
[[registry]]
location = "localhost"
insecure = true
"""


class Buildah:
    """One build's hold on the storage. Made by ``open_buildah``."""

    def __init__(self, root: Path, driver: str, workspace: Workspace, lock_fd: int) -> None:
        self._root = root
        self._driver = driver
        self._lock_fds = (workspace.lock_fd, lock_fd)
        self._scratch = workspace.path / "buildah"
        self._run_root = self._scratch / "run"
        self._settings = {
            "CONTAINERS_CONF": str(self._scratch / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._scratch / "storage.conf"),
            "TMPDIR": str(root / "tmp"),
        }
        self._global_options: list[str | Path] = []
        self.policy_options: list[str | Path] = []
        """For the commands that read or write images: pull, push and bud."""

    def write_settings(self) -> None:
        """The host's policy and registries hold where there are any; the rest is fledge's."""
        self._run_root.mkdir(parents=True)
        (self._scratch / "containers.conf").write_text(_CONTAINERS_CONF)
        (self._scratch / "storage.conf").write_text(_STORAGE_CONF.format(driver=self._driver))
        registries = self._scratch / "registries.conf"
        registries.write_text(_REGISTRIES_CONF)
        policy = self._scratch / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._global_options = [
            "--root", self._root / "store", "--runroot", self._run_root, "--storage-driver", self._driver,
            "--registries-conf", _REGISTRIES if _names_registries(_REGISTRIES) else registries,
        ]  # fmt: skip
        self.policy_options = ["--signature-policy", _POLICY if _POLICY.is_file() else policy]

    async def run(
        self, arguments: Sequence[str | Path], *, timeout_s: float, is_online: bool = True, report: Report | None = None
    ) -> Contained:
        """Run ``buildah ARGUMENTS``. Raises as ``run_contained`` does."""
        ended = await run_contained(
            ["buildah", *self._global_options, *arguments],
            timeout_s=timeout_s, env=self._settings, pass_fds=self._lock_fds, is_online=is_online, report=report,
        )  # fmt: skip
        if ended.exit_status == 127:
            raise CommandFailed(("buildah",), 127, "", hint="apt-get install buildah")
        return ended


@asynccontextmanager
async def open_buildah(root: Path, kind: str, workspace: Workspace) -> AsyncIterator[Buildah]:
    """Storage under ``root`` for builds of one kind, kept from being removed inside the block.

    What killed builds left there is removed first.

    Raises:
        InvalidInput: no storage can be in such a place. HostError: it cannot be used.
    """
    if ":" in str(workspace.path) or ":" in str(root):
        raise InvalidInput(f"no image can be built under {root}: a colon in a path ends it for buildah", hint="use --cache-dir")
    root = root / kind
    lock = _open_lock(root)
    try:
        alone = _try_lock(lock, fcntl.LOCK_EX)
        if not alone:
            await _take_shared(lock)
        buildah = Buildah(root, await _choose_driver(root, workspace, lock), workspace, lock)
        await asyncio.to_thread(buildah.write_settings)
        if alone:
            await _recover(root, buildah)
            await _take_shared(lock)
        # Changing a lock lets go of it for a moment (flock(2)), in which all may have been removed.
        _make_directories(root)
        mark = root / "running" / secrets.token_hex(8)
        mark.write_text(_read_boot_id())
        try:
            yield buildah
            mark.unlink()
        finally:
            # A step that was killed, here or in a build that died meanwhile, has left its container, in which its secrets are.
            if any((root / "running").iterdir()) and _try_lock(lock, fcntl.LOCK_EX):
                await _recover(root, buildah)
    finally:
        os.close(lock)


async def prune_builds(root: Path) -> bool:
    """Remove the layers that ``root`` keeps. Returns False when some stay because a build is using them. Raises HostError."""
    all_gone = True
    for kind in await asyncio.to_thread(_list_kinds, root):
        lock = _open_lock(kind)
        try:
            if _try_lock(lock, fcntl.LOCK_EX):
                await _remove(*(kind / name for name in ("store", "tmp", "running", "driver")))
            else:
                all_gone = False
        finally:
            os.close(lock)
    return all_gone


def _list_kinds(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _open_lock(root: Path) -> int:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(f"{root} cannot be used: {error.strerror}", hint="choose another with --cache-dir") from error


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _take_shared(lock: int) -> None:
    # A thread that waits in flock cannot be cancelled and would hold up the end of the program, so this asks again.
    while True:
        if _try_lock(lock, fcntl.LOCK_SH):
            return
        await asyncio.sleep(LOCK_RETRY_S)


async def _choose_driver(root: Path, workspace: Workspace, lock: int) -> str:
    """overlay shares what layers have in common; vfs copies it, and works where overlay cannot (on overlay itself)."""
    _make_directories(root)
    known = root / "driver"
    if known.is_file() and known.read_text() in ("overlay", "vfs"):
        return known.read_text()
    probe = Workspace(workspace.path / "probe", workspace.lock_fd)
    buildah = Buildah(root, "overlay", probe, lock)
    buildah.write_settings()
    ended = await buildah.run(["images", "--quiet"], timeout_s=HOUSEKEEPING_TIMEOUT_S, is_online=False)
    driver = "overlay" if ended.exit_status == 0 else "vfs"
    written = probe.path / "driver"
    written.write_text(driver)
    written.rename(known)
    return driver


def _make_directories(root: Path) -> None:
    for name in ("store", "tmp", "running"):
        (root / name).mkdir(mode=0o700, exist_ok=True)


async def _recover(root: Path, buildah: Buildah) -> None:
    """Remove what builds that did not end by themselves left behind; the caller has the lock alone."""
    marks = list((root / "running").iterdir())
    if not marks:
        return
    # buildah does not wait for the disk, so after a power failure what it kept may be empty or half there.
    is_whole = all(mark.read_text() == _read_boot_id() for mark in marks)
    for command in (["rm", "--all"], ["images", "--all", "--quiet"]):
        if is_whole:
            is_whole = (await buildah.run(command, timeout_s=HOUSEKEEPING_TIMEOUT_S, is_online=False)).exit_status == 0
    if not is_whole:
        await _remove(root / "store")
        (root / "store").mkdir(mode=0o700)
    await _remove(*(path for path in (root / "tmp").iterdir() if not path.name.startswith("buildah-cache")))
    for mark in marks:
        mark.unlink()


async def _remove(*paths: Path) -> None:
    await run(["rm", "-rf", "--one-file-system", "--", *paths], timeout_s=HOUSEKEEPING_TIMEOUT_S)


def _names_registries(path: Path) -> bool:
    """Whether the host says where names without a registry lead; Debian's file, all comments, does not."""
    try:
        return "unqualified-search-registries" in tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return False


def _read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()
