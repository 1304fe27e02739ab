"""What a start of ``volar`` costs, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import volant

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

HEAVY = (
    "litestar", "structlog", "pyroute2", "rich", "websockets", "httpx", "asyncio", "uvicorn", "apsw", "volant.api",
    "volant.store", "volant.run",
)  # fmt: skip
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(volant.__file__).parents[1])}
LIMIT_S = 60


def _imported(arguments: list[str], address: str) -> set[str]:
    """Every module that a run names in its import times."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "volant.cli.volar", *arguments],
        capture_output=True, text=True, timeout=LIMIT_S, env={**ENVIRONMENT, "VOLANT_API": address}, check=True,
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.spawns
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["vms", "--help"], ["vms", "list"], ["vms", "stats"], ["plugins", "list"], ["snapshots", "list"],
        ["templates", "list"], ["pools", "list"], ["events"],
    ],
)  # fmt: skip
def test_it_imports_nothing_heavy(served: Served, arguments: list[str]) -> None:
    imported = _imported(arguments, served.address)
    assert "click" in imported
    assert sorted(module for module in imported if module.startswith(HEAVY)) == []


@pytest.mark.spawns
def test_exec_moves_stdin_and_signals(served: Served) -> None:
    environment = {**ENVIRONMENT, "VOLANT_API": served.address}
    volar = [sys.executable, "-m", "volant.cli.volar", "vms"]
    subprocess.run([*volar, "create", "web", "--plugin", "nginx", "--no-wait"], timeout=LIMIT_S, env=environment, check=True)
    content = os.urandom(300_000)
    piped = subprocess.run(
        [*volar, "exec", "web", "--", "cat"], input=content, capture_output=True, timeout=LIMIT_S, env=environment, check=True
    )
    assert piped.stdout == content

    with subprocess.Popen(
        [*volar, "exec", "web", "--", "hang"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    ) as hanging:
        assert hanging.stdout is not None
        assert hanging.stdout.readline() == b"hanging\n"
        hanging.send_signal(signal.SIGINT)
        assert hanging.wait(LIMIT_S) == 128 + signal.SIGINT
