"""volantd started wrongly says what is wrong in a line, and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

VOLANTD = Path(sys.executable).parent / "volantd"


def start(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    places = ["--data-dir", str(tmp_path / "data"), "--runtime-dir", str(tmp_path / "run"), "--hypervisor", "simulated"]
    return subprocess.run([VOLANTD, *places, *flags], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (("--subnet", "banana"), 2, "not an IPv4 subnet"),
        (("--subnet", "8.8.8.0/24"), 2, "may belong to others"),
        (("--bridge", "vt-1"), 2, "cannot be the name of a bridge"),
        (("--listen", "tcp:1.2.3.4:80"), 2, "cannot listen"),
        (("--node", "Bad Name"), 2, "not a valid name"),
        (("--config", "/nonexistent.toml"), 2, "there is no"),
        (("--data-dir", "/proc/nothing/here"), 1, "cannot use /proc/nothing/here"),
        (("--data-dir", "/etc/passwd"), 1, "cannot use /etc/passwd"),
    ],
)
def test_a_wrong_start_is_explained(tmp_path: Path, flags: tuple[str, ...], status: int, said: str) -> None:
    done = start(tmp_path, *flags)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("volantd: ")


def test_a_damaged_registry_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "volant.db").write_text("no database")
    done = start(tmp_path)
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "data" / "volant.db").read_text() == "no database"


@pytest.mark.parametrize("hypervisor", ["simulated", "qemu"])
def test_the_check_says_what_there_is_without_a_daemon(tmp_path: Path, hypervisor: str) -> None:
    done = start(tmp_path, "--check", "--json", "--hypervisor", hypervisor)
    names = [check["name"] for check in json.loads(done.stdout)["items"]]
    assert {"privileges", "host", "disk"} <= set(names)
    assert not (tmp_path / "data").exists(), "looking changes nothing"
