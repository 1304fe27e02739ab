"""The README's own commands, as a newcomer types them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 600

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"),
]


def run_demo(directory: Path, **environment: str) -> str:
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    done = subprocess.run(
        ["make", "-s", "demo"],
        cwd=REPOSITORY,
        env={**os.environ, "DEMO_DIR": str(directory), "FLEDGE_CACHE": cache, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def namespaces() -> set[str]:
    place = Path("/run/netns")
    return {entry.name for entry in place.iterdir() if entry.name.startswith("volant-demo")} if place.is_dir() else set()


def mounts() -> int:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # `ip netns` keeps one shared mount of its directory once it was used; it is not the demo's.
    return sum("/run/netns" not in line for line in lines)


def test_the_demo_shows_two_answers_and_leaves_nothing(tmp_path: Path) -> None:
    before = namespaces(), mounts()
    shown = run_demo(tmp_path / "demo")
    assert shown.count("HTTP/1.1 200 OK") == 2
    assert "X-Served-By: web-1" in shown and "X-Served-By: web-2" in shown
    assert "nginx version: nginx/" in shown or "nginx -v" in shown
    assert not (tmp_path / "demo").exists()
    assert (namespaces(), mounts()) == before


def test_the_demo_can_be_kept_used_and_ended(tmp_path: Path) -> None:
    before = namespaces()
    shown = run_demo(tmp_path / "demo", KEEP="1")
    lines = dict(re.findall(r"^(use it|reach it|end it): +(.*)$", shown, re.MULTILINE))
    api = lines["use it"].split(";")[0].removeprefix("export ")
    listed = subprocess.run(
        ["env", api, str(REPOSITORY / ".venv/bin/volar"), "vms", "list"], capture_output=True, text=True, timeout=30
    )
    assert listed.stdout.count("Running") == 2, listed
    reached = subprocess.run(["sh", "-c", lines["reach it"]], capture_output=True, text=True, timeout=30)
    assert "It works" in reached.stdout
    ended = subprocess.run(["sh", "-c", lines["end it"]], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended
    assert not (tmp_path / "demo").exists()
    assert namespaces() == before
