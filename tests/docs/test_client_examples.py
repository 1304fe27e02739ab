"""The examples of docs/howto/client.md do what they say, and their types are right."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.api.plane import SimulatedVolantd

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def volantd() -> Iterator[SimulatedVolantd]:
    with tempfile.TemporaryDirectory() as directory, SimulatedVolantd(Path(directory)) as running:
        running.run(running.plane.intents.vms.delete("web", force=True))
        running.run(_gone(running))
        yield running


async def _gone(running: SimulatedVolantd) -> None:
    async for vm in running.plane.intents.vms.watch("web"):
        if vm is None:
            return


def test_the_examples_run(volantd: SimulatedVolantd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(EXAMPLES) >= 7
    monkeypatch.setenv("VOLANT_API", volantd.unix)
    exec(compile("\n".join(EXAMPLES), str(PAGE), "exec"), {"__name__": "examples"})


def test_the_examples_are_typed(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    wrong = "\n_wrong: int = client.vms.get('web').status.phase\n"
    example.write_text("\n".join(EXAMPLES) + wrong)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-incremental", str(example)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if "error" in line]
    assert len(lines) == 1, run.stdout + run.stderr
    assert 'variable has type "int"' in lines[0]
