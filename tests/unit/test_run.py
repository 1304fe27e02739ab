"""The door to subprocesses: what it passes on."""

from __future__ import annotations

import pytest

from volant.run import build_environment


def test_fakeroots_pretence_is_passed_on_and_nobody_elses_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    monkeypatch.delenv("FAKEROOTKEY", raising=False)
    assert "LD_PRELOAD" not in build_environment()
    monkeypatch.setenv("FAKEROOTKEY", "1")
    assert {"FAKEROOTKEY", "LD_PRELOAD"} <= build_environment().keys()
