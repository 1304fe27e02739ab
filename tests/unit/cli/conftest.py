"""A served control plane; the parts are those of the API's own tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from volant.cli.volar import run

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        running.run(running.plane.add_plugin())
        yield running


@dataclass
class Ran:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def volar(served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``volar`` in this process against the served control plane."""
    monkeypatch.setenv("VOLANT_API", served.address)

    def run_volar(*arguments: str) -> Ran:
        code = run(arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_volar
