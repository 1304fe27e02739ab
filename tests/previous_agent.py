"""The agents of the version before this one, built from the repository's own history: guests that were built then run on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PREVIOUS = "a64fada498257e72b45d7b55ac2775781157cc94"
"""The last commit whose kestrel has neither terminals, nor ports, files, probes, hooks, DHCP and further disks."""

CAPABILITIES = ("exec", "logs", "http_probe", "renew", "freeze", "sync", "clone")
"""What its hello says, which names no ``max_streams`` either."""

MAX_STREAMS = 64
BUILD_S = 300


def build_previous(directory: Path) -> Path:
    """The directory with that version's ``kestrel`` and ``kestrel-test``; skips the test where they cannot be made."""
    missing = [program for program in ("git", "make", "musl-gcc", "tar") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"the agent of the previous version cannot be built: {', '.join(missing)} is missing")
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MAKE"))}
    source, built = directory / "previous", directory / "previous-built"
    source.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", REPOSITORY, "archive", PREVIOUS, "native", "tests/vectors"], capture_output=True, timeout=BUILD_S, env=alone
    )
    if archive.returncode != 0:
        pytest.skip(f"the history here does not hold the previous version ({PREVIOUS[:12]}): a shallow or an exported checkout?")
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True, timeout=BUILD_S)
    made = subprocess.run(
        ["make", "-s", "-C", source / "native", f"OUT={built}", "VERSION=0.0.9", "all", "test-agent"],
        capture_output=True,
        timeout=BUILD_S,
        env=alone,
    )
    assert made.returncode == 0, made.stderr.decode()
    return built / "x86_64"
