"""busybox for a guest that has no programs of its own: Debian's static one, or one that the recipe names by URL and digest.

It is never run here, where it may not even be able to: which programs it has is read from the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from volant.core.errors import HostError, InvalidInput
from volant.fledge.cache import Cache, Workspace
from volant.fledge.debian.apt import Package, open_package
from volant.fledge.fetch import check_url, fetch_file
from volant.fledge.initramfs.interpreter import read_interpreter
from volant.fledge.progress import Progress
from volant.run import spawn

if TYPE_CHECKING:
    import httpx2

PACKAGE = "busybox-static"
FILE_MAX_BYTES = 32 * 1024 * 1024

BUSYBOX = "busybox"
"""The file's name in its entry of the cache."""

_URL_FIELD = "source.busybox_url"
_IN_PACKAGE = re.compile(r"\./(?:usr/)?bin/busybox")
_APPLET = re.compile(rb"[!-.0-~]{1,32}")

# Where `busybox --install` of Debian's puts what does not lie in /bin.
_PLACES = {
    "usr/bin": """
        [ [[ ar ascii awk basename bc blkdiscard bunzip2 bzcat bzip2 cal chvt clear cmp crc32 crontab cut dc deallocvt
        diff dirname dos2unix dpkg dpkg-deb du dumpleases env expand expr factor fallocate find fold free ftpget
        ftpput groups head hexdump hostid id killall last less logger logname lsscsi lzcat lzma md5sum microcom mkfifo
        mkpasswd nc nl nproc nsenter nslookup od openvt passwd paste patch printf realpath renice reset rpm2cpio seq
        setkeycodes setsid sha1sum sha256sum sha3sum sha512sum shred shuf sort ssl_client strings svc svok tac tail
        taskset tee telnet test tftp time timeout top tr traceroute traceroute6 truncate ts tty unexpand uniq unix2dos
        unlink unlzma unshare unxz unzip uptime uudecode uuencode w wc wget which who whoami xargs xxd xz xzcat yes
    """,
    "sbin": """
        acpid adjtimex arp blockdev depmod devmem fdisk findfs freeramdisk fstrim getty halt hwclock ifconfig ifdown
        ifup init insmod ip ipneigh klogd loadkmap logread losetup lsmod mdev mkdosfs mke2fs mkswap modinfo modprobe
        nameif pivot_root poweroff reboot rmmod route run-init start-stop-daemon sulogin swapoff swapon switch_root
        sysctl syslogd tc tunctl udhcpc uevent vconfig watchdog
    """,
    "usr/sbin": """
        arping brctl chroot crond fsfreeze httpd i2cdetect i2cdump i2cget i2cset i2ctransfer loadfont mim nologin
        partprobe rdate telnetd ubirename udhcpd
    """,
}
_PLACE_OF = {applet: place for place, applets in _PLACES.items() for applet in applets.split()}
_NO_PROGRAMS = ("busybox", "linuxrc")


class BusyboxChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Debian's, or that of ``url`` (https or file) whose digest is ``sha256``, 64 hexadecimal digits."""

    url: str = ""
    sha256: str = ""


class BusyboxRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """``package`` is Debian's, ``url`` where another was fetched; ``sha256`` is that of the program itself."""

    sha256: str
    package: Package | None = None
    url: str = ""


class Busybox(msgspec.Struct, frozen=True):
    record: BusyboxRecord
    path: Path


@asynccontextmanager
async def open_busybox(
    cache: Cache, choice: BusyboxChoice, progress: Progress, *, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Busybox]:
    """The program in the cache, fetched when it is not there. ``transport`` stands in for the network.

    Raises:
        InvalidInput: the URL or the digest cannot be right, or what they name is no static busybox. ChecksumMismatch: it is
        another file. TooLarge, TimedOut, HostError: it cannot be had.
    """
    if choice.url:
        async with _open_fetched(cache, choice, progress, transport) as busybox:
            yield busybox
        return
    async with open_package(
        cache, "busybox", PACKAGE, progress,
        choose=lambda _: PACKAGE, hint="give source.busybox_url and source.busybox_sha256, or busybox = false",
    ) as (package, deb):  # fmt: skip

        async def unpack(target: Path, _workspace: Workspace) -> None:
            content = await asyncio.to_thread(_read_package, deb)
            (target / BUSYBOX).write_bytes(content)

        async with cache.entry("busyboxes", package.sha256, unpack) as entry:
            path = entry / BUSYBOX
            content = await asyncio.to_thread(path.read_bytes)
            yield Busybox(BusyboxRecord(hashlib.sha256(content).hexdigest(), package=package), path)


def read_applets(program: bytes) -> tuple[str, ...]:
    """The programs in a busybox: its table of names, each ended by a NUL, sorted, that begins with ``[``.

    Raises:
        InvalidInput: there is none.
    """
    begin = program.find(b"\0[\0[[\0") + 1
    names: list[bytes] = []
    while begin > 0:
        end = program.find(b"\0", begin)
        name = program[begin:end]
        if end < 0 or not _APPLET.fullmatch(name) or (names and name <= names[-1]):
            break
        names.append(name)
        begin = end + 1
    if b"sh" not in names:
        raise InvalidInput("what should be busybox has no list of programs with a shell in it", field=_URL_FIELD)
    return tuple(name.decode() for name in names)


def place_applets(applets: tuple[str, ...]) -> tuple[str, ...]:
    """Where each lies, as ``busybox --install`` has it; one that is not known here lies in ``bin``."""
    return tuple(f"{_PLACE_OF.get(applet, 'bin')}/{applet}" for applet in applets if applet not in _NO_PROGRAMS)


def _read_package(deb: Path) -> bytes:
    process = spawn(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    assert process.stdout is not None
    content = b""
    try:
        with process.stdout as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if _IN_PACKAGE.fullmatch(member.name) and member.isfile() and member.size <= FILE_MAX_BYTES:
                    reader = archive.extractfile(member)
                    assert reader is not None
                    content = reader.read()
            while stream.read(1 << 16):
                pass
    except tarfile.TarError as error:
        raise HostError(f"{deb.name} cannot be read: {error}") from error
    finally:
        process.wait()
    if process.returncode != 0 or not content:
        raise HostError(f"{PACKAGE} has no /bin/busybox, or is no whole package", hint="build with --no-cache")
    _check_program(content, PACKAGE)
    return content


def _check_program(content: bytes, what: str) -> None:
    interpreter = read_interpreter(content, what, machine=platform.machine())
    if interpreter:
        raise InvalidInput(
            f"{what} needs {interpreter}, which an empty guest does not have", field=_URL_FIELD, hint="name a static busybox"
        )
    read_applets(content)


@asynccontextmanager
async def _open_fetched(
    cache: Cache, choice: BusyboxChoice, progress: Progress, transport: httpx2.AsyncBaseTransport | None
) -> AsyncIterator[Busybox]:
    wanted = choice.sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InvalidInput(
            "a busybox that is fetched is named by its digest", field="source.busybox_sha256", hint="sha256sum of the file"
        )
    check_url(choice.url, _URL_FIELD)

    async def fetch(target: Path, _workspace: Workspace) -> None:
        path = target / BUSYBOX
        with progress.step(f"Fetching {choice.url}"):
            await fetch_file(
                choice.url, path, sha256=wanted, max_bytes=FILE_MAX_BYTES, field=_URL_FIELD, transport=transport
            )  # fmt: skip
        _check_program(await asyncio.to_thread(path.read_bytes), choice.url)

    async with cache.entry("busyboxes", wanted, fetch) as entry:
        yield Busybox(BusyboxRecord(wanted, url=choice.url), entry / BUSYBOX)
