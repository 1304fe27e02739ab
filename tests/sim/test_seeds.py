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

from .deterministic.faults import RATES
from .deterministic.mischief import KINDS

ROOT = Path(__file__).parents[2]
FIXED = 24
FRESH_S = float(os.environ.get("VOLANT_SIM_SECONDS", "20"))
FRESH_MOST = 100_000
LIMIT_S = 1200.0
DONE = (
    "DELETE deployments/NAME",
    "DELETE jobs/NAME",
    "DELETE quotas/NAME",
    "DELETE vms/NAME",
    "PATCH deployments/NAME",
    "PATCH jobs/NAME",
    "PATCH nodes/NAME",
    "PATCH quotas/NAME",
    "PATCH vms/NAME/config",
    "POST apply",
    "POST deployments",
    "POST deployments/NAME/pause",
    "POST deployments/NAME/restart",
    "POST deployments/NAME/resume",
    "POST deployments/NAME/scale",
    "POST deployments/NAME/undo",
    "POST jobs",
    "POST nodes/NAME/drain",
    "POST quotas",
    "POST vms",
    "POST vms/NAME/restart",
    "POST vms/NAME/resume",
    "POST vms/NAME/start",
    "POST vms/NAME/stop",
    "POST vms/NAME/suspend",
)
"""What people have to have done, with success, in the fixed seeds."""

COVERED = {*(f"done {each}" for each in DONE), *(f"fault {each}" for each in RATES), *(f"mischief {each}" for each in KINDS)}
DEFECTS = {
    "forget-writes": 10,
    "leak-claims": 10,
    "delete-bystanders": 15,
    "kill-strangers": 10,
    "never-look-again": 15,
    "take-one-too-many": 30,
    "make-one-too-many": 30,
    "break-now-and-then": 10,
    "count-failures-as-done": 15,
    "run-one-too-many": 20,
    "give-for-nothing": 20,
    "place-anywhere": 20,
    "mind-no-budget": 30,
    "lead-all-the-same": 30,
}
"""By defect, the seeds within which it has to be found."""


def start(*arguments: str, hash_seed: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))}
    environment.pop("PYTHONHASHSEED", None)
    if hash_seed:
        environment["PYTHONHASHSEED"] = hash_seed
    command = [sys.executable, "-m", "tests.sim.deterministic", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(started: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status, and all that it said."""
    try:
        said, _ = started.communicate(timeout=LIMIT_S)
    finally:
        started.kill()
    return started.returncode, said


def run(*arguments: str, hash_seed: str = "") -> tuple[int, str]:
    return finish(start(*arguments, hash_seed=hash_seed))


def find_trace(said: str) -> str:
    found = re.search(r"trace ([0-9a-f]{32})", said)
    assert found is not None, said
    return found[1]


def read_trace(*arguments: str, hash_seed: str = "") -> str:
    return find_trace(run(*arguments, hash_seed=hash_seed)[1])


def test_fixed_seeds_hold_and_try_everything() -> None:
    half = FIXED // 2
    started = [start("--from", str(first), "--count", str(half), "--tally") for first in (1, 1 + half)]
    tried: set[str] = set()
    for code, said in [finish(each) for each in started]:
        assert code == 0, said
        tried |= {line.split(maxsplit=2)[2] for line in said.splitlines() if line.startswith("tally ")}
    assert not sorted(COVERED - tried), "the fixed seeds have to be others, or more"


def test_fresh_seeds_hold(capsys: pytest.CaptureFixture[str]) -> None:
    first = 1_000_000 + secrets.randbelow(1_000_000_000)
    code, said = run("--from", str(first), "--count", str(FRESH_MOST), "--seconds", str(FRESH_S))
    with capsys.disabled():
        sys.stdout.write(f"\nfresh seeds: {said.strip().splitlines()[-1]}\n")
    assert code == 0, said


def test_a_seed_is_the_same_run_every_time() -> None:
    first = read_trace("--seed", "5")
    assert read_trace("--seed", "5", hash_seed="77") == first
    assert read_trace("--seed", "6") != first


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_a_planted_defect_is_found_and_found_again(defect: str) -> None:
    code, said = run("--count", str(DEFECTS[defect]), "--plant", defect)
    assert code == 1, f"{defect} was not found:\n{said[-4000:]}"
    assert "Broken" in said, said
    again = re.search(r"--seed (\d+) --trace --plant", said)
    assert again is not None, said
    assert read_trace("--seed", again[1], "--plant", defect) == find_trace(said)
