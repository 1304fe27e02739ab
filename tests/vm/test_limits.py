"""A host that is full, and what the kernel says of a VM process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .daemon import Daemon

EMPTY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB: less than the plugin's files need."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_said_and_nothing_is_half_made(small_disk: Path, make_daemon: Callable[..., Daemon], nginx: Path) -> None:
    daemon = make_daemon(data=small_disk)
    daemon.start()
    done = daemon.volar("plugins", "install", str(nginx), check=False)
    assert done.returncode == 1 and b"full" in done.stderr and b"Traceback" not in done.stderr
    assert daemon.json("plugins", "list")["items"] == []
    kept = [path for path in (small_disk / "artifacts").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 60 * 1024 * 1024, "what arrived in part is gone"
    assert daemon.stop() == 0
    daemon.start()


def test_a_vm_process_is_nobody(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    process = Path(f"/proc/{daemon.vm('web')['status']['pid']}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {"700000"} and set(status["Gid"].split()) == {"700000"}
    assert status["Groups"].split() == []
    assert {name: int(status[name], 16) for name in EMPTY_SETS} == dict.fromkeys(EMPTY_SETS, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for space in ("net", "mnt", "ipc", "uts"):
        assert (process / "ns" / space).readlink() != Path(f"/proc/self/ns/{space}").readlink()
    assert daemon.vm("web")["status"]["isolation"] in ("emulated", "hardware")


def test_hardware_isolation_is_refused_where_there_is_none(make_daemon: Callable[..., Daemon], nginx: Path) -> None:
    daemon = make_daemon()
    daemon.start("--accelerator", "tcg")
    daemon.volar("plugins", "install", str(nginx))
    done = daemon.volar("vms", "create", "web", "--plugin", "nginx", "--isolation", "hardware", check=False)
    assert done.returncode == 1 and b"hardware isolation" in done.stderr
    assert daemon.vm("web")["status"]["pid"] is None
