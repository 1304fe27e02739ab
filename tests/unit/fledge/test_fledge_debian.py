from __future__ import annotations

import io
import os
import platform
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import volant.fledge.debian.archive
import volant.fledge.debian.install
import volant.fledge.debian.pool
from volant.core.errors import ChecksumMismatch, CommandFailed, DiskFull, HostError, InvalidInput
from volant.fledge.cache import Cache
from volant.fledge.debian.archive import Archive, choose_sources
from volant.fledge.debian.install import compare_installed
from volant.fledge.debian.lock import Lock, LockedPackage, VersionChange, make_lock, render_lock
from volant.fledge.debian.pool import BATCH_BYTES, DEB, KIND, divide_packages
from volant.fledge.debian.request import DebianPackage, PackageRequest, read_installed, read_request
from volant.fledge.debian.tree import Settled, install_lock, settle_lock
from volant.fledge.progress import Progress
from volant.run import Completed

from .debian_archives import SUITE, MadeArchive, MadePackage, add_base, build_package

pytestmark = pytest.mark.spawns  # packages are made by dpkg-deb and read by apt

QUIET = Progress(io.StringIO(), quiet=True)
EPOCH_S = 1704067200

needs_apt = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None or not Path("/usr/lib/apt/apt-helper").exists(), reason="apt and dpkg are not installed"
)
needs_mmdebstrap = pytest.mark.skipif(
    shutil.which("mmdebstrap") is None or os.geteuid() != 0 or platform.machine() != "x86_64",
    reason="mmdebstrap is not installed, or this is not root, or not an amd64 host",
)
Answer = Callable[[list[str]], Completed]


@pytest.fixture
async def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    return cache


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    """An archive in which ``app`` depends on ``lib``."""
    archive = MadeArchive(tmp_path_factory.mktemp("published") / "archive")
    archive.add("base", fields="Essential: yes\n")
    archive.add("app", "1:2-3", fields="Depends: lib (>= 1)\n")
    archive.add("lib", "1.5")
    archive.add("other")
    archive.publish()
    return archive


@pytest.fixture
def archive(published: MadeArchive, tmp_path: Path) -> MadeArchive:
    """A copy of ``published`` that a test may change."""
    return published.copy(tmp_path / "archive")


async def settle(
    cache: Cache, archive: MadeArchive, *packages: str, lock: Lock | None = None, update: bool = False, suite: str = SUITE
) -> Settled:
    return await settle_lock(ask(archive, *packages, suite=suite), lock, update=update, cache=cache, progress=QUIET)


def ask(archive: MadeArchive, *packages: str, suite: str = SUITE) -> PackageRequest:
    return PackageRequest(packages, suite, "amd64", archive.mirror, archive.directory.parent)


def locked(package: MadePackage) -> LockedPackage:
    return LockedPackage(package.name, package.version, "all", package.sha256, package.size, package.file)


async def install(cache: Cache, request: PackageRequest, lock: Lock, root: Path, progress: Progress = QUIET) -> None:
    async with cache.workspace() as workspace:
        await install_lock(request, lock, root, epoch_s=EPOCH_S, cache=cache, workspace=workspace, progress=progress)


@pytest.fixture
def without_mmdebstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch, check and write the repository, and leave the installing out."""

    async def install_nothing(*_: Any, **__: Any) -> None:
        pass

    monkeypatch.setattr(volant.fledge.debian.tree, "install_packages", install_nothing)
    monkeypatch.setattr(volant.fledge.debian.tree, "check_privileges", lambda: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What apt is run for."""
    commands: list[str] = []
    real = volant.fledge.debian.archive.run

    async def run(command: list[Any], **keywords: Any) -> Completed:
        commands.append(next(word for word in map(str, command) if word in ("update", "install", "download-file", "show")))
        return await real(command, **keywords)

    monkeypatch.setattr(volant.fledge.debian.archive, "run", run)
    return commands


@needs_apt
async def test_without_a_lock_the_archive_is_asked_and_the_answer_locked(cache: Cache, archive: MadeArchive) -> None:
    settled = await settle(cache, archive, "app")

    assert settled.lock == make_lock(SUITE, "amd64", ["app"], [locked(archive.packages[name]) for name in ("app", "base", "lib")])
    assert (settled.is_new, settled.changes) == (True, None)
    assert archive.directory.as_posix() not in render_lock(settled.lock).decode()
    assert not list((cache.root / "tmp").iterdir())


@needs_apt
async def test_a_lock_that_answers_is_used_as_it_is(cache: Cache, archive: MadeArchive, asked: list[str]) -> None:
    lock = (await settle(cache, archive, "app", "other")).lock
    asked.clear()
    archive.add("app", "9")
    archive.publish()

    settled = await settle(cache, archive, "other", "app", lock=lock)

    assert settled == Settled(lock, is_new=False)
    assert asked == []


@needs_apt
async def test_a_lock_that_does_not_answer_says_what_changed(cache: Cache, archive: MadeArchive) -> None:
    lock = (await settle(cache, archive, "app")).lock

    with pytest.raises(
        InvalidInput, match=r"fledge\.lock does not answer this recipe: the suite was bookworm and is sid; other came in"
    ):
        await settle(cache, archive, "app", "other", lock=lock, suite="sid")


@needs_apt
async def test_an_update_follows_the_archive_and_says_how_far(cache: Cache, archive: MadeArchive) -> None:
    lock = (await settle(cache, archive, "app", "other")).lock
    archive.remove("other")
    archive.add("lib", "1.6")
    archive.add("app", "1:2-3", fields="Depends: lib (>= 1), extra\n")
    archive.add("extra")
    archive.publish()

    settled = await settle(cache, archive, "app", lock=lock, update=True)

    assert settled.is_new
    assert settled.changes is not None
    assert settled.changes.describe() == ("+ extra 1", "- other 1", "app 1:2-3 has another digest", "lib 1.5 -> 1.6")
    assert VersionChange("lib", "1.5", "1.6") in settled.changes.changed


@needs_apt
async def test_an_update_that_finds_nothing_new_is_the_same_lock(cache: Cache, archive: MadeArchive) -> None:
    lock = (await settle(cache, archive, "app")).lock

    settled = await settle(cache, archive, "app", lock=lock, update=True)

    assert render_lock(settled.lock) == render_lock(lock)
    assert not settled.is_new
    assert not settled.changes


@needs_apt
@pytest.mark.parametrize(
    ("package", "message"),
    [("lost", "Unable to locate package lost"), ("app=7", "Version '7' for 'app' was not found")],
)
async def test_what_the_archive_does_not_have_is_said_in_apts_words(
    cache: Cache, archive: MadeArchive, package: str, message: str
) -> None:
    with pytest.raises(HostError, match=f"bookworm cannot be resolved: {message}"):
        await settle(cache, archive, package)


@needs_apt
async def test_an_archive_that_cannot_be_read_is_an_error(cache: Cache, archive: MadeArchive) -> None:
    shutil.rmtree(archive.directory / "dists")

    with pytest.raises(HostError, match="bookworm cannot be read: "):
        await settle(cache, archive, "app")


@needs_apt
async def test_an_archive_with_a_wrong_signature_is_not_believed(cache: Cache, archive: MadeArchive) -> None:
    request = msgspec.structs.replace(ask(archive, "app"), mirror=archive.mirror.replace("[trusted=yes] ", ""))

    with pytest.raises(HostError, match=r"is not signed|no longer signed"):
        await settle_lock(request, None, update=False, cache=cache, progress=QUIET)


@needs_apt
async def test_packages_are_fetched_once_and_kept_by_digest(
    cache: Cache, archive: MadeArchive, tmp_path: Path, asked: list[str], without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "app")).lock
    said = io.StringIO()
    asked.clear()

    await install(cache, ask(archive, "app"), lock, tmp_path / "root", Progress(said, as_json=True))
    fetches = list(asked)
    shutil.rmtree(archive.directory)
    await install(cache, ask(archive, "app"), lock, tmp_path / "root")
    await install(Cache(cache.root, reuse=False), ask(archive, "app"), lock, tmp_path / "root")

    assert fetches == ["download-file"]
    assert asked == fetches
    assert sorted(path.name for path in (cache.root / KIND).iterdir()) == sorted(package.sha256 for package in lock.packages)
    total_bytes = sum(package.size for package in lock.packages)
    taken = next(event for event in map(msgspec.json.decode, said.getvalue().splitlines()) if event["event"] == "done")
    assert (taken["step"], taken["done_bytes"], taken["total_bytes"]) == ("Taking 3 Debian packages", total_bytes, total_bytes)


@needs_apt
async def test_a_package_that_was_damaged_in_the_cache_is_fetched_anew(
    cache: Cache, archive: MadeArchive, tmp_path: Path, asked: list[str], without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "app")).lock
    await install(cache, ask(archive, "app"), lock, tmp_path / "root")
    damaged = cache.root / KIND / archive.packages["lib"].sha256 / DEB
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    asked.clear()

    await install(cache, ask(archive, "app"), lock, tmp_path / "root")

    assert asked == ["download-file"]
    assert damaged.read_bytes() == (archive.directory / archive.packages["lib"].file).read_bytes()


@needs_apt
async def test_an_archive_that_has_moved_on_is_said_so(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "app", "other")).lock
    for name in ("app", "lib", "other"):
        archive.remove(name)
    archive.add("app", "1:2-4", fields="Depends: lib\n")
    archive.add("lib", "1.6")
    archive.publish()

    with pytest.raises(HostError) as caught:
        await install(cache, ask(archive, "app", "other"), lock, tmp_path / "root")

    assert caught.value.message == (
        "the archive of bookworm has moved on: app is locked at 1:2-3, now 1:2-4; lib is locked at 1.5, now 1.6; "
        "other is locked at 1, now not there at all"
    )
    assert "--update-lock" in (caught.value.hint or "")
    # What there was is kept for the next build.
    assert (cache.root / KIND / archive.packages["base"].sha256 / DEB).exists()


@needs_apt
async def test_an_archive_that_is_no_more_is_another_error_than_one_that_moved_on(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        volant.fledge.debian.archive, "_CONFIGURATION", volant.fledge.debian.archive._CONFIGURATION + 'Acquire::Retries "0";'
    )
    lock = (await settle(cache, archive, "app")).lock
    gone = msgspec.structs.replace(ask(archive, "app"), mirror="http://127.0.0.1:9/debian")

    with pytest.raises(HostError, match="cannot be downloaded: Could not connect"):
        await install(cache, gone, lock, tmp_path / "root")


@needs_apt
@pytest.mark.parametrize("content", [b"short", b"", bytes(1 << 20)], ids=["shorter", "empty", "longer"])
async def test_another_file_in_a_locked_place_is_refused(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None, content: bytes
) -> None:
    lock = (await settle(cache, archive, "app")).lock
    (archive.directory / archive.packages["lib"].file).write_bytes(content)

    with pytest.raises(ChecksumMismatch, match=r"pool/lib_1.5_all.deb is not what was locked"):
        await install(cache, ask(archive, "app"), lock, tmp_path / "root")

    assert not (cache.root / KIND / archive.packages["lib"].sha256).exists()


@needs_apt
async def test_a_changed_file_of_the_same_size_is_refused(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "app")).lock
    path = archive.directory / archive.packages["lib"].file
    path.write_bytes(bytes(path.stat().st_size))

    with pytest.raises(ChecksumMismatch, match="Hash Sum mismatch"):
        await install(cache, ask(archive, "app"), lock, tmp_path / "root")


@needs_apt
async def test_a_lock_that_misnames_a_package_is_refused(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "other")).lock
    packages = tuple(
        msgspec.structs.replace(package, version="8") if package.name == "other" else package for package in lock.packages
    )

    with pytest.raises(ChecksumMismatch, match=r"other_1_all.deb is other 1 all, locked is other 8 all"):
        await install(cache, ask(archive, "other"), msgspec.structs.replace(lock, packages=packages), tmp_path / "root")


@needs_apt
async def test_a_lock_that_misnames_a_package_is_refused_also_when_it_is_kept(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None
) -> None:
    lock = (await settle(cache, archive, "other")).lock
    await install(cache, ask(archive, "other"), lock, tmp_path / "root")
    packages = tuple(msgspec.structs.replace(package, version="8") for package in lock.packages)

    with pytest.raises(ChecksumMismatch, match=r"is (other|base) 1 all, locked is (other|base) 8 all"):
        await install(cache, ask(archive, "other"), msgspec.structs.replace(lock, packages=packages), tmp_path / "root")


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Error writing to file - write (28: No space left on device)", DiskFull),
        ("unexpected size: 3 bytes, locked are 4", ChecksumMismatch),
        ("403  Forbidden [IP: 127.0.0.1 80]", HostError),
    ],
)
def test_why_a_download_failed_is_told_apart(reason: str, error: type[HostError]) -> None:
    package = LockedPackage("a", "1", "all", "0" * 64, 4, "pool/a.deb")

    with pytest.raises(HostError) as caught:
        volant.fledge.debian.archive._check_failures(package, ["404  Not Found", reason])

    assert type(caught.value) is error
    volant.fledge.debian.archive._check_failures(
        package, ["404  Not Found", "Failed to stat - stat (2: No such file or directory)"]
    )


@needs_apt
async def test_a_package_is_looked_for_in_every_source(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = MadeArchive(tmp_path / "second + ärchive")
    second.add("app", "1:3", fields="Depends: lib\n")
    second.publish()
    sources = (archive.mirror, f"deb [trusted=yes] copy:{str(second.directory).replace(' ', '%20')} {SUITE} main")

    async def choose(_suite: str, _mirror: str) -> tuple[str, ...]:
        return sources

    monkeypatch.setattr(volant.fledge.debian.tree, "choose_sources", choose)

    lock = (await settle(cache, archive, "app")).lock
    await install(cache, ask(archive, "app"), lock, tmp_path / "root")

    assert {package.sha256 for package in lock.packages} >= {second.packages["app"].sha256, archive.packages["lib"].sha256}
    assert (cache.root / KIND / second.packages["app"].sha256 / DEB).exists()


@needs_apt
async def test_a_package_file_of_the_recipes_own_is_locked_by_its_digest(
    cache: Cache, archive: MadeArchive, tmp_path: Path
) -> None:
    made = build_package(tmp_path / "my_1_all.deb", "my", fields="Depends: lib\n")

    settled = await settle(cache, archive, "./my_1_all.deb")

    assert {package.name for package in settled.lock.packages} == {"base", "lib", "my"}
    assert LockedPackage("my", "1", "all", made.sha256, made.size, "./my_1_all.deb") in settled.lock.packages
    assert await settle(cache, archive, "./my_1_all.deb", lock=settled.lock) == Settled(settled.lock, is_new=False)

    (tmp_path / "my_1_all.deb").unlink()
    build_package(tmp_path / "my_1_all.deb", "my", fields="Depends: lib, other\n")
    with pytest.raises(InvalidInput, match=r"\./my_1_all\.deb is not the file that fledge\.lock has"):
        await settle(cache, archive, "./my_1_all.deb", lock=settled.lock)

    (tmp_path / "my_1_all.deb").unlink()
    with pytest.raises(InvalidInput, match=r"\./my_1_all\.deb cannot be read: No such file"):
        await settle(cache, archive, "./my_1_all.deb", lock=settled.lock)


@needs_apt
async def test_a_package_file_is_taken_before_the_archives_newer_one(cache: Cache, archive: MadeArchive, tmp_path: Path) -> None:
    older = build_package(tmp_path / "lib.deb", "lib", "1.1")
    same = build_package(tmp_path / "app.deb", "app", "1:2-3", fields="Depends: lib\n")

    settled = await settle(cache, archive, "./lib.deb", "./app.deb")

    assert {package.sha256 for package in settled.lock.packages} >= {older.sha256, same.sha256}


@needs_apt
async def test_what_is_no_package_file_is_refused(cache: Cache, archive: MadeArchive, tmp_path: Path) -> None:
    (tmp_path / "noise.deb").write_bytes(b"noise")
    build_package(tmp_path / "arm.deb", "arm", architecture="arm64")

    with pytest.raises(InvalidInput, match=r"\./noise\.deb is no Debian package"):
        await settle(cache, archive, "./noise.deb")
    with pytest.raises(InvalidInput, match=r"\./arm\.deb is for arm64, and this builds for amd64"):
        await settle(cache, archive, "./arm.deb")


@needs_apt
async def test_what_a_package_says_of_its_own_place_does_not_count(
    cache: Cache, archive: MadeArchive, tmp_path: Path, without_mmdebstrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = "Filename: /etc/passwd\nSHA256: 00\n continued\nSize: 3\nDepends: lib\n"
    build_package(tmp_path / "my.deb", "my", fields=fields)
    written: list[bytes] = []
    real = volant.fledge.debian.pool.write_repository

    def write(pool: Any, suite: str, architecture: str) -> None:
        real(pool, suite, architecture)
        written.append((pool.directory / "Packages").read_bytes())

    monkeypatch.setattr(volant.fledge.debian.tree, "write_repository", write)

    settled = await settle(cache, archive, "./my.deb")

    own = next(package for package in settled.lock.packages if package.name == "my")
    assert b"passwd" not in written[0]
    assert b"continued" not in written[0]
    assert f"Filename: ./{own.sha256}.deb\nSize: {own.size}\nSHA256: {own.sha256}\n".encode() in written[0]


@needs_apt
@needs_mmdebstrap
async def test_the_same_lock_gives_the_same_tree_without_the_archive(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    archive = MadeArchive(tmp_path / "archive")
    add_base(archive)
    script = (
        'echo "$HOME $TZ $LANG $PYTHONHASHSEED $SOURCE_DATE_EPOCH" > /var/lib/seen; umask > /var/lib/umask; '
        'while IFS=: read -r name rest; do echo "$name"; done < /proc/net/dev > /var/lib/net; '
        'read -r name < /proc/sys/kernel/hostname; echo "$name" > /var/lib/name; '
        "echo when > /var/log/app.log; echo secret > /etc/ssh/ssh_host_rsa_key"
    )
    archive.add(
        "app",
        "1:2-3",
        fields="Depends: lib\n",
        files={"usr/bin/app": b"app", "usr/share/man/man1/app.1": b"x", "etc/ssh/sshd_config": b"", "var/log/apt/app": b""},
        script=script,
    )
    archive.add("lib", "1.5", files={"usr/lib/lib.so": b"lib"})
    archive.publish()
    request = ask(archive, "app")
    lock = (await settle(cache, archive, "app")).lock
    await install(cache, request, lock, tmp_path / "one")
    shutil.rmtree(archive.directory)
    asked.clear()

    (tmp_path / "other").mkdir()
    for name, value in {"HOME": "/nowhere", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "TMPDIR": str(tmp_path / "other")}.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        (tmp_path / "other/two").mkdir()
        await install(cache, request, lock, tmp_path / "other/two")
    finally:
        os.umask(before)

    first, second = list_tree(tmp_path / "one"), list_tree(tmp_path / "other/two")
    assert first == second
    assert asked == []
    assert first["usr/bin/app"][-1] == b"app"
    assert first["var/lib/seen"][-1] == f"/root UTC C.UTF-8 0 {EPOCH_S}\n".encode()
    assert b"lo" in first["var/lib/net"][-1].split()
    assert not list_cards() & set(first["var/lib/net"][-1].split())
    assert first["var/lib/name"][-1] == b"localhost\n"
    assert "usr/share/man/man1/app.1" not in first
    assert not {
        "etc/hostname",
        "etc/resolv.conf",
        "etc/apt/sources.list",
        "var/log/app.log",
        "var/lib/dpkg/status-old",
        "etc/ssh/ssh_host_rsa_key",
    } & set(first)
    assert b"unsafe-io" not in first["etc/dpkg/dpkg.cfg.d/99mmdebstrap"][-1]
    assert first["var/lib/apt/extended_states"][-1] == b"Package: lib\nArchitecture: amd64\nAuto-Installed: 1\n\n"
    assert str(tmp_path).encode() not in b"".join(facts[-1] for facts in first.values())
    assert not compare_installed(lock, read_installed(tmp_path / "one"))


def list_cards() -> set[bytes]:
    return {os.fsencode(path.parent.name) for path in Path("/sys/class/net").glob("*/device")}


def list_tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Of everything under ``root``: mode, owner, links, attributes, time when it is a package's own, and content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in (root, *root.rglob("*")):
        facts = path.lstat()
        content = b""
        if stat.S_ISREG(facts.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(facts.st_mode):
            content = os.fsencode(path.readlink())
        attributes = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in os.listxattr(path, follow_symlinks=False)
        )
        time_ns = facts.st_mtime_ns if facts.st_mtime_ns < root.parent.parent.stat().st_ctime_ns - 86400 * 10**9 else None
        owners = (facts.st_uid, facts.st_gid, facts.st_rdev)
        found[str(path.relative_to(root))] = (facts.st_mode, owners, sorted(attributes), time_ns, content)
    return found


@needs_apt
@needs_mmdebstrap
async def test_a_package_that_does_not_install_is_named(cache: Cache, tmp_path: Path) -> None:
    archive = MadeArchive(tmp_path / "archive")
    add_base(archive)
    archive.add("app", script="exit 3")
    archive.publish()
    lock = (await settle(cache, archive, "app")).lock

    with pytest.raises(
        HostError, match=r"app does not install: installed app package post-installation script .* error exit status 3"
    ):
        await install(cache, ask(archive, "app"), lock, tmp_path / "root")

    assert not list((cache.root / "tmp").iterdir())


@pytest.mark.parametrize(
    ("status", "said", "message"),
    [
        (127, "sh: 1: exec: mmdebstrap: not found", "mmdebstrap is not installed"),
        (25, "tar: write error: No space left on device\nE: tar failed", "there is no room to install the packages"),
        (25, "E: apt-get update failed\nE: mmdebstrap failed to run", "the locked packages cannot be installed: apt-get update"),
        (1, "unshare: unshare failed: Operation not permitted", "unshare failed with status 1: .*not permitted"),
    ],
)
async def test_why_nothing_was_installed_is_said(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str, message: str
) -> None:
    async def fail(command: list[Any], **_: Any) -> Completed:
        raise CommandFailed(tuple(map(str, command)), status, said)

    monkeypatch.setattr(volant.fledge.debian.install, "run", fail)
    monkeypatch.setattr(volant.fledge.debian.tree, "check_privileges", lambda: None)

    with pytest.raises(HostError, match=message):
        await install(
            cache, PackageRequest((), SUITE, "amd64", "", tmp_path), make_lock(SUITE, "amd64", [], []), tmp_path / "root"
        )


async def test_only_root_installs(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = PackageRequest(("app",), SUITE, "amd64", "", tmp_path)
    lock = make_lock(SUITE, "amd64", ["app"], [])

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="only root can install Debian packages"):
        await install(cache, request, lock, tmp_path / "root")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("FAKEROOTKEY", "1")
    with pytest.raises(HostError, match="only root can install Debian packages"):
        await install(cache, request, lock, tmp_path / "root")


def test_what_is_fetched_comes_in_batches() -> None:
    def package(name: str, size: int) -> LockedPackage:
        return LockedPackage(name, "1", "all", "0" * 64, size, f"pool/{name}")

    small = [package(f"p{number:02}", 1) for number in range(33)]
    large = [package("large", BATCH_BYTES), package("after", 1)]

    assert [len(batch) for batch in divide_packages(small)] == [32, 1]
    assert [[each.name for each in batch] for batch in divide_packages(large)] == [["large"], ["after"]]
    assert divide_packages([]) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("--hook", "is no package name"), ("a,b", "is no package name"), ("nginx light", "is no package name"),
        ("?essential", "is no package name"), ("nginx:arm64", "another architecture than amd64"),
        ("/abs/my.deb", "no path of a package file"), ("my.deb", "no path of a package file"),
        ('./a"b.deb', "no path of a package file"),
    ],
)  # fmt: skip
async def test_a_name_that_no_package_can_have_is_refused(name: str, message: str, answer: Callable[[Answer], None]) -> None:
    answer(lambda command: Completed(0, b"amd64\n", b""))

    with pytest.raises(InvalidInput, match=message):
        await read_request((name,), "", "", Path())


@pytest.mark.parametrize("suite", ["--help", "a b", "B"])
async def test_a_suite_that_could_be_an_option_is_refused(suite: str) -> None:
    with pytest.raises(InvalidInput, match="is no suite"):
        await read_request(("nginx",), suite, "", Path())


async def test_a_request_tells_names_from_files(answer: Callable[[Answer], None]) -> None:
    answer(lambda command: Completed(0, b"amd64\n", b""))

    request = await read_request(("nginx:amd64", "../a.deb", "curl=1:2~x", "./b.deb"), "", "", Path("/recipe"))

    assert (request.suite, request.architecture) == ("bookworm", "amd64")
    assert request.files == ("../a.deb", "./b.deb")
    assert request.names == ("curl=1:2~x", "nginx:amd64")


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Let a function answer for the programs that would be run."""

    def install(answering: Answer) -> None:
        async def run(command: list[Any], **_: Any) -> Completed:
            return answering([str(word) for word in command])

        monkeypatch.setattr(volant.fledge.debian.request, "run", run)
        monkeypatch.setattr(volant.fledge.debian.archive, "run", run)

    return install


async def test_the_hosts_own_archives_of_the_suite_are_used(answer: Callable[[Answer], None]) -> None:
    listing = (
        b"/usr/share/keyrings/debian-archive-keyring.gpg|http://mirror/debian/|bookworm|main\n"
        b"/usr/share/keyrings/debian-archive-keyring.gpg|http://mirror/debian/|bookworm|main\n"
        b"|http://mirror/security/|bookworm-security|main\n"
        b"|http://mirror/debian/|trixie|main\n"
    )
    answer(lambda command: Completed(0, listing, b""))

    assert await choose_sources("bookworm", "") == (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    )
    assert await choose_sources("sid", "http://mine") == ("deb http://mine sid main",)
    assert await choose_sources("sid", "deb [trusted=yes] http://mine ./") == ("deb [trusted=yes] http://mine ./",)


@pytest.mark.parametrize(
    ("suite", "releases"),
    [("bullseye", ["bullseye", "bullseye-security"]), ("sid", ["sid"]), ("bookworm-backports", ["bookworm-backports"])],
)
async def test_another_suite_is_looked_for_where_the_hosts_own_is(
    answer: Callable[[Answer], None], suite: str, releases: list[str]
) -> None:
    listing = b"|http://mirror/debian/|bookworm|main\n|http://mirror/security/|bookworm-security|main\n"
    answer(lambda command: Completed(0, listing, b""))

    places = ["http://mirror/debian/", "http://mirror/security/"]
    assert await choose_sources(suite, "") == tuple(
        f"deb {place} {release} main" for place, release in zip(places, releases, strict=False)
    )


async def test_a_host_without_an_archive_of_debians_is_asked_for_one(answer: Callable[[Answer], None]) -> None:
    def fail(command: list[str]) -> Completed:
        raise CommandFailed(tuple(command), 100, "E: no")

    for answering in (fail, lambda command: Completed(0, b"", b"")):
        answer(answering)
        with pytest.raises(InvalidInput, match="has no archive of Debian's to take bookworm from") as caught:
            await choose_sources("bookworm", "")
        assert caught.value.field == "source.mirror"


@pytest.mark.parametrize("mirror", ["/etc/apt/sources.list", "-", "deb http://mine", "http://a b\ndeb [trusted=yes] http://c"])
async def test_what_is_no_source_is_refused(mirror: str) -> None:
    with pytest.raises(InvalidInput, match="is no source of packages") as caught:
        await choose_sources("sid", mirror)

    assert caught.value.field == "source.mirror"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("'http://mine/pool/a.deb' a_1_all.deb 7 MD5Sum:00", "gives no SHA256"),
        ("'http://mine/pool/a.deb' a_1_all.deb 7", "gives no SHA256"),
        ("'http://other/pool/a.deb' a_1_all.deb 7 SHA256:00", "lies in none of its sources"),
        ("'http://mine/../a.deb' a_1_all.deb 7 SHA256:00", "lies in none of its sources"),
        ("nothing to do", "does not say what a would install"),
    ],
)
async def test_an_archive_that_cannot_be_locked_is_refused(
    answer: Callable[[Answer], None], tmp_path: Path, line: str, message: str
) -> None:
    answer(lambda command: Completed(0, f"Reading package lists...\n{line}\n".encode(), b""))

    with pytest.raises(HostError, match=message):
        await Archive(tmp_path, ["deb http://mine sid main"], "sid", "amd64").resolve(["a"])


def test_installed_packages_are_read_from_dpkgs_database(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: b\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nDescription: x\n more: text\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\n"
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
    )

    assert read_installed(tmp_path) == (DebianPackage("a", "1", "all"), DebianPackage("b", "1:2-3", "amd64"))


def test_what_was_installed_is_compared_with_the_lock() -> None:
    lock = make_lock(SUITE, "amd64", [], [LockedPackage("a", "1", "all", "0" * 64, 1, "pool/a")])

    assert compare_installed(lock, [DebianPackage("a", "1", "all")]) == ()
    assert compare_installed(lock, [DebianPackage("a", "2", "all")]) == ("a 1 is not installed", "a 2 is not locked")
