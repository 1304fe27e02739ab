"""What was acknowledged is there, whatever became of the process or the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import volant
from volant.core.clock import HostClock
from volant.store.sqlite import open_store

pytestmark = pytest.mark.spawns

CHILD = Path(__file__).with_name("acknowledging_child.py")
SOURCES = Path(volant.__file__).parent.parent
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}


async def check_all_there(path: Path, acknowledged: set[str]) -> None:
    async with open_store(path, HostClock()) as store:
        listing = await store.list("vm")
    names = {item.key.name for item in listing.items}
    assert {name.removesuffix("-a") for name in names if name.endswith("-a")} == {
        name.removesuffix("-b") for name in names if name.endswith("-b")
    }
    assert acknowledged <= {name[:-2] for name in names}
    assert sorted({item.revision for item in listing.items}) == list(range(1, listing.revision + 1))


def write_until_killed(path: Path, acknowledgements: int) -> set[str]:
    """Kill the child after so many lines; return all lines that it had written whole."""
    with subprocess.Popen([sys.executable, str(CHILD), str(path)], stdout=subprocess.PIPE, env=ENVIRONMENT) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        child.kill()
        lines += child.stdout.readlines()
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}


@pytest.mark.parametrize("acknowledgements", [1, 500, 3000])
async def test_a_killed_process_loses_nothing_acknowledged(path: Path, acknowledgements: int) -> None:
    acknowledged = write_until_killed(path, acknowledgements)
    assert len(acknowledged) >= acknowledgements
    await check_all_there(path, acknowledged)


FULL_DISK = """
mount -t tmpfs -o size=2m,mode=0700 none "$1" &&
"$2" "$3" "$1/volant.db" &&
cp "$1"/volant.db "$1"/volant.db-wal "$4/"
"""


def write_until_full(directory: Path) -> set[str]:
    """Let the child fill a 2 MiB file system of its own mount namespace; its database and log are copied to ``directory``.

    A full disk cannot fold the log into the database, so the log is still there.
    """
    mounted = directory / "mounted"
    mounted.mkdir()
    command = ["unshare", "--mount", "sh", "-c", FULL_DISK, "sh", str(mounted), sys.executable, str(CHILD), str(directory)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, env=ENVIRONMENT, timeout=60, check=True)
    lines = ended.stdout.decode().split()
    assert "full" in lines
    return set(lines) - {"full"}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_a_full_disk_loses_nothing_acknowledged(path: Path) -> None:
    acknowledged = write_until_full(path.parent)
    assert len(acknowledged) > 100
    await check_all_there(path, acknowledged)
