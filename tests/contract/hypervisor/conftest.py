"""Every test of the suite runs against every driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.fledge.cache import Cache
from volant.fledge.kernel.boot import KernelChoice, open_boot_files
from volant.fledge.progress import Progress
from volant.hypervisor.driver import Driver
from volant.hypervisor.machine import Unit
from volant.native import find_native

from .cloud_hypervisor_program import INTERPRETER, write_program
from .hypervisor_hosts import CloudHypervisorSide, Host, QemuSide, SimulatedSide

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with Debian's kernel and an initramfs of the suite's own guest, both open to every user."""
    missing = [program for program in ("qemu-system-x86_64", "musl-gcc", "apt-get") if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"not installed: {', '.join(missing)}" if missing else "needs root")
    directory = tmp_path_factory.mktemp("boot")
    init = directory / "init"
    subprocess.run(
        ["musl-gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", init, Path(__file__).parent / "guest" / "init.c"],
        check=True,
        timeout=60,
    )
    cache = Cache(Path(os.environ.get("FLEDGE_CACHE", REPOSITORY / "build" / "fledge-cache")))

    async def fetch() -> None:
        await cache.open()
        async with open_boot_files(
            cache, KernelChoice(), filesystem="erofs", kestrel=find_native("kestrel"), progress=Progress(sys.stderr)
        ) as files:
            for name, source in (("vmlinux", files.vmlinux), ("boot.cpio", files.initramfs)):
                shutil.copyfile(source, directory / name)
                (directory / name).chmod(0o444)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLANT_KESTREL", str(init))
        asyncio.run(fetch())
    return directory


@pytest.fixture
def qemu(tmp_path: Path, boot: Path) -> QemuSide:
    return QemuSide(tmp_path, boot)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for Cloud Hypervisor."""
    missing = [path for path in (INTERPRETER, "/dev/net/tun") if not os.path.exists(path)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"not there: {', '.join(missing)}" if missing else "needs root")
    return write_program(tmp_path_factory.mktemp("bin") / "cloud-hypervisor")


@pytest.fixture
def cloud_hypervisor(tmp_path: Path, program: Path) -> CloudHypervisorSide:
    return CloudHypervisorSide(tmp_path, program)


@pytest.fixture(params=["simulated", pytest.param("qemu", marks=pytest.mark.vm), "cloud_hypervisor"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    if request.param == "simulated":
        return SimulatedSide(tmp_path)
    side: Host = request.getfixturevalue(request.param)
    return side


@pytest.fixture
async def driver(host: Host) -> AsyncIterator[Driver]:
    yield await host.open_driver()
    await host.close()


@pytest.fixture
def unit(host: Host) -> Unit:
    return host.make_unit()
