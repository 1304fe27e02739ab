"""The deterministic simulation: a fixed set of seeds, fresh ones for a bounded time, and proof that it finds defects.

Each batch runs in a process of its own, which has the order of its sets fixed and takes its killed volantds with it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXED = 40
FIXED_IN_A_BATCH = 10
FRESH_S = float(os.environ.get("VOLANT_SIM_SECONDS", "45"))
FRESH_MOST = 100_000
LIMIT_S = 1200.0
DEFECTS = {
    "forget-writes": 10,
    "leak-claims": 10,
    "delete-bystanders": 15,
    "kill-strangers": 10,
    "never-look-again": 15,
    "take-one-too-many": 30,
    "make-one-too-many": 30,
}
"""By defect, the seeds within which it has to be found."""


def run(*arguments: str, hash_seed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))}
    environment.pop("PYTHONHASHSEED", None)
    if hash_seed:
        environment["PYTHONHASHSEED"] = hash_seed
    command = [sys.executable, "-m", "tests.sim.deterministic", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def find_trace(said: str) -> str:
    found = re.search(r"trace ([0-9a-f]{32})", said)
    assert found is not None, said
    return found[1]


def read_trace(*arguments: str, hash_seed: str = "") -> str:
    ran = run(*arguments, hash_seed=hash_seed)
    return find_trace(ran.stdout + ran.stderr)


@pytest.mark.parametrize("first", range(1, FIXED + 1, FIXED_IN_A_BATCH))
def test_fixed_seeds_hold(first: int) -> None:
    ran = run("--from", str(first), "--count", str(FIXED_IN_A_BATCH))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_fresh_seeds_hold(capsys: pytest.CaptureFixture[str]) -> None:
    first = 1_000_000 + secrets.randbelow(1_000_000_000)
    ran = run("--from", str(first), "--count", str(FRESH_MOST), "--seconds", str(FRESH_S))
    with capsys.disabled():
        sys.stdout.write(f"\nfresh seeds: {ran.stdout.strip().splitlines()[-1]}\n")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_seed_is_the_same_run_every_time() -> None:
    first = read_trace("--seed", "5")
    assert read_trace("--seed", "5", hash_seed="77") == first
    assert read_trace("--seed", "6") != first


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_a_planted_defect_is_found_and_found_again(defect: str) -> None:
    ran = run("--count", str(DEFECTS[defect]), "--plant", defect)
    assert ran.returncode == 1, f"{defect} was not found:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    assert "Broken" in ran.stdout, ran.stdout + ran.stderr
    again = re.search(r"--seed (\d+) --trace --plant", ran.stdout)
    assert again is not None, ran.stdout
    assert read_trace("--seed", again[1], "--plant", defect) == find_trace(ran.stdout)
