"""The second example: a plugin from a list of Debian packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .conftest import REPOSITORY
from .daemon import BIN, Daemon


def test_a_list_of_packages_becomes_a_vm_that_answers(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    out = tmp_path / "hello"
    recipe = REPOSITORY / "examples" / "busybox" / "fledge.toml"
    built = subprocess.run(
        [BIN / "fledge", "build", "-q", "-c", recipe, "-o", out, "--cache-dir", cache], capture_output=True, timeout=600
    )
    assert built.returncode == 0, built.stderr.decode()
    daemon = make_daemon()
    daemon.start()
    daemon.volar("plugins", "install", str(out))
    daemon.volar("vms", "create", "hi", "--plugin", "hello")
    assert b"Hello from a microVM" in daemon.fetch(daemon.vm("hi"))
    shared = daemon.volar("vms", "exec", "hi", "--", "find", "/usr", "/var", "-perm", "-2000", "-printf", "%U:%G %m\\n").stdout
    lines = shared.decode().split("\n")
    assert "0:42 2755" in lines or "0:50 2775" in lines, "what the packages' own scripts set is kept"
    page = daemon.volar("vms", "exec", "hi", "--", "stat", "-c", "%u:%g %a", "/srv/www/index.html").stdout
    assert page == b"0:0 644\n"
