"""What a service manager hears."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from volant.observe.notify import notify_manager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_it(tmp_path: Path, abstract: bool) -> None:
    name = f"@volant-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind("\0" + name[1:] if abstract else name)
        assert notify_manager("READY=1", environment=name)
        assert manager.recv(100) == b"READY=1"


def test_without_one_nothing_is_said(tmp_path: Path) -> None:
    assert not notify_manager("READY=1", environment="")
    assert not notify_manager("READY=1", environment="relative")
    assert not notify_manager("READY=1", environment=str(tmp_path / "nobody"))
