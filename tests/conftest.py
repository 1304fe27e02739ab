"""Doors that a unit test opens by name only: processes, real waiting, sockets beyond this machine."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

UNIT = Path(__file__).parent / "unit"


class DoorClosed(BaseException):  # not an Exception, so that nothing swallows it
    """A unit test did what only a marked test may do."""


@pytest.fixture(autouse=True)
def _closed_doors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if UNIT not in Path(str(request.node.fspath)).parents:
        return
    _close_sockets(monkeypatch)
    if request.node.get_closest_marker("spawns") is not None:
        return
    _close_processes(monkeypatch)
    _close_waiting(monkeypatch)


def _close_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **_: Any) -> None:
        raise DoorClosed(f"a unit test starts a process: {args[1:2]}; mark it with @pytest.mark.spawns if it must")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


def _close_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    real_sleep = asyncio.sleep

    async def sleep(delay: float, result: Any = None) -> Any:
        if delay > 0:
            raise DoorClosed(f"a unit test sleeps for {delay} s; give what it tests a simulated clock")
        return await real_sleep(0, result)

    def block(delay: float) -> None:
        raise DoorClosed(f"a unit test blocks for {delay} s")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "sleep", block)


def _close_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not (str(address[0]).startswith("127.") or address[0] in ("::1", "localhost")):
            raise DoorClosed(f"a unit test connects to {address}")
        real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
