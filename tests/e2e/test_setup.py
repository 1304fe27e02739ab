"""``volar setup`` on a file system of its own: made, mended, and taken away again."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

UNIT = "etc/systemd/system/volantd.service"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set a host up")

Volar = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/group").write_text("root:x:0:\n")
    (tmp_path / "root/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return tmp_path / "root"


@pytest.fixture
def volar(root: Path) -> Iterator[Volar]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("volar")), "setup", "--root", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)

    yield run


def read_tree(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
        # groupadd keeps copies and locks of what it changes.
        if not path.name.startswith(("group", "gshadow", ".pwd"))
    }


def test_a_host_is_set_up_and_taken_down_again(root: Path, volar: Volar) -> None:
    before = read_tree(root)
    done = volar("--subnet", "10.80.0.0/16")
    assert done.returncode == 0, done.stderr
    assert 'subnet = "10.80.0.0/16"' in (root / "etc/volant/volant.toml").read_text()
    assert stat.S_IMODE((root / "var/lib/volant").stat().st_mode) == 0o700
    assert (root / "usr/local/share/man/man1/volar-vms.1").exists()
    assert "_VOLAR_COMPLETE=bash_complete" in (root / "usr/share/bash-completion/completions/volar").read_text()
    assert any(line.startswith("volant:") for line in (root / "etc/group").read_text().splitlines())
    after = read_tree(root)

    again = volar("--subnet", "10.80.0.0/16")
    assert again.returncode == 0
    assert "write " not in again.stdout
    assert "update " not in again.stdout
    assert read_tree(root) == after

    undone = volar("--uninstall")
    assert undone.returncode == 0, undone.stderr
    left = {path: found for path, found in read_tree(root).items() if (root / path).is_file()}
    assert left == {path: found for path, found in before.items() if (root / path).is_file()}
    assert not (root / "etc/volant").exists()
    assert not (root / "var/lib/volant").exists()
    assert "volant" not in (root / "etc/group").read_text()


def test_a_dry_run_says_all_and_does_nothing(root: Path, volar: Volar) -> None:
    before = read_tree(root)
    done = volar("--dry-run")
    assert done.returncode == 0
    assert "write   /etc/systemd/system/volantd.service: starts volantd with the host" in done.stdout
    assert "nothing was done" in done.stdout
    assert read_tree(root) == before


def test_what_is_somebody_elses_stops_it_before_anything_is_done(root: Path, volar: Volar) -> None:
    (root / UNIT).parent.mkdir(parents=True)
    (root / UNIT).write_text("[Unit]\nDescription=mine\n")
    before = read_tree(root)
    done = volar()
    assert done.returncode == 4
    assert "volantd.service is somebody else's, or was changed" in done.stderr
    assert read_tree(root) == before


def test_what_was_changed_since_stays(root: Path, volar: Volar) -> None:
    assert volar().returncode == 0
    (root / "etc/volant/volant.toml").write_text('log_level = "debug"\n')
    (root / UNIT).write_text("[Unit]\nDescription=mine\n")
    refused = volar("--subnet", "10.80.0.0/16")
    assert (refused.returncode, "volantd.service" in refused.stderr) == (4, True)
    assert (root / "etc/volant/volant.toml").read_text() == 'log_level = "debug"\n'

    undone = volar("--uninstall")
    assert "leave   /etc/systemd/system/volantd.service: it was changed" in undone.stdout
    assert (root / UNIT).read_text() == "[Unit]\nDescription=mine\n"
    assert (root / "etc/volant/volant.toml").exists()
    assert volar("--uninstall").returncode == 4


def test_other_settings_update_what_setup_wrote(root: Path, volar: Volar) -> None:
    assert volar().returncode == 0
    done = volar("--runtime-dir", "/run/other")
    assert "update  /etc/systemd/system/volantd.service" in done.stdout
    assert "RuntimeDirectory=other" in (root / UNIT).read_text()


def test_data_goes_only_when_that_is_said(root: Path, volar: Volar) -> None:
    assert volar().returncode == 0
    (root / "var/lib/volant/disk").write_text("precious")
    refused = volar("--uninstall", "--purge")
    assert (refused.returncode, (root / "var/lib/volant/disk").exists()) == (2, True)
    assert volar("--uninstall").returncode == 0
    assert (root / "var/lib/volant/disk").read_text() == "precious"
    assert volar().returncode == 0
    assert volar("--uninstall", "--purge", "--yes").returncode == 0
    assert not (root / "var/lib/volant").exists()


@pytest.mark.parametrize(
    "words", [("--subnet", "8.8.8.0/24"), ("--bridge", "lo"), ("--data-dir", "a b"), ("--runtime-dir", "/tmp/x"), ("--purge",)]
)
def test_what_cannot_be_right_is_refused(root: Path, volar: Volar, words: tuple[str, ...]) -> None:
    before = read_tree(root)
    done = volar(*words)
    assert (done.returncode, len(done.stderr.splitlines()) <= 2) == (2, True)
    assert read_tree(root) == before


def test_the_record_says_what_was_made(root: Path, volar: Volar) -> None:
    assert volar().returncode == 0
    record = json.loads((root / "etc/volant/setup.json").read_text())
    assert record["group"] is True
    assert f"/{UNIT}" in record["files"]
    assert "/var/lib/volant" in record["directories"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(root: Path, volar: Volar) -> None:
    assert volar().returncode == 0
    command = ["systemd-analyze", "verify", "--man=no", str(root / UNIT)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in checked.stderr.splitlines() if "volantd.service" in line]
    assert ours == [], checked.stderr
