"""A real guest whose first program means harm (hostile/init.c): volantd keeps answering, stays small, and ends it when told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import REPOSITORY
from .daemon import BIN, Daemon

HARMS = 10
LIMIT_S = 180.0
ANSWERED_S = 30.0
"""For one command of ``volar``, on a machine that emulates two guests besides."""

GROWTH_KB = 96 * 1024


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One initramfs with that program in the place of kestrel."""
    if shutil.which("musl-gcc") is None:
        pytest.skip("the hostile guest cannot be built: musl-gcc is missing")
    out = tmp_path_factory.mktemp("hostile")
    native = REPOSITORY / "native" / "kestrel"
    program = out / "init"
    sources = [Path(__file__).parent / "hostile" / "init.c", *(native / f"{name}.c" for name in ("console", "modules", "port"))]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Os", "-static", "-s", f"-I{native}"]
    made = subprocess.run(["musl-gcc", *flags, "-o", program, *sources], capture_output=True, timeout=120)
    assert made.returncode == 0, made.stderr.decode()
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    recipe = REPOSITORY / "examples" / "initramfs" / "fledge.toml"
    done = subprocess.run(
        [BIN / "fledge", "build", "-c", recipe, "-o", out, "--cache-dir", cache],
        env={**os.environ, "VOLANT_KESTREL": str(program)},
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    return out


def resident_kb(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_guest_that_does_all_kinds_of_harm_is_told_from_the_others_and_ended(daemon: Daemon, plugin: Path) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    before = daemon.wait_vm("web", lambda vm: vm["status"]["ready"])
    memory_kb = resident_kb(daemon.pid)

    daemon.volar("plugins", "install", str(plugin / "manifest.json"))
    daemon.volar("vms", "create", "evil", "--plugin", "nimble", "--start", "cold", "--grace", "1", "--no-wait")
    done: set[int] = set()
    began = time.monotonic()
    while done != set(range(HARMS)):
        assert time.monotonic() - began < LIMIT_S, f"it came to {done}"
        said = daemon.volar("vms", "exec", "web", "--", "echo", "unharmed", timeout_s=ANSWERED_S).stdout
        assert said == b"unharmed\n"
        evil = daemon.vm("evil")
        assert "\x1b" not in str(evil["status"])
        console = (daemon.data / "vms" / evil["uid"] / "console.log").read_text(errors="replace")
        done = {int(turn) for turn in re.findall(r"harm (\d+)", console)}
        assert resident_kb(daemon.pid) - memory_kb < GROWTH_KB
    for words in (("exec", "evil", "--", "true"), ("cp", "evil:/etc", str(plugin)), ("stats", "evil")):
        # It may be refused, or be lied to; it ends.
        ended = daemon.volar("vms", *words, check=False, timeout_s=150)
        assert b"\x1b" not in ended.stdout + ended.stderr
    daemon.volar("vms", "delete", "evil", timeout_s=60)
    after = daemon.vm("web")
    assert (after["status"]["run_id"], after["status"]["ready"]) == (before["status"]["run_id"], True)
    assert b"It works" in daemon.fetch(after)
