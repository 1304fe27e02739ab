"""The fuzzers of the guest's end of the channel, each for a bounded number of runs from a fixed seed.

``make -C native fuzz`` runs them by time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[3] / "native"
FUZZERS = sorted(source.stem for source in (NATIVE / "test" / "fuzz").glob("*.c"))
RUNS = 4000

pytestmark = pytest.mark.spawns


@pytest.fixture(scope="session")
def fuzzers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the built fuzzers and their seeds."""
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        pytest.skip("clang is not installed")
    probe = tmp_path_factory.mktemp("probe") / "probe.c"
    probe.write_text("int LLVMFuzzerTestOneInput(const char *b, unsigned long n) { return b == 0 && n > 0; }\n")
    built = subprocess.run(
        [clang, "-fsanitize=fuzzer,address", "-o", probe.with_suffix(""), probe], capture_output=True, timeout=60
    )
    if built.returncode != 0:
        pytest.skip("clang has no fuzzer runtime (Debian: libclang-rt-14-dev)")
    out = Path(os.environ.get("VOLANT_FUZZERS", str(NATIVE.parent / "build" / "native")))
    made = subprocess.run(["make", "-s", "-C", NATIVE, f"OUT={out}", "fuzzers"], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    return out / "fuzz"


def test_there_is_a_fuzzer_for_each_decoder() -> None:
    assert {"session", "control", "message", "config", "records", "entry", "preamble"} <= set(FUZZERS)


@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_is_found(name: str, fuzzers: Path, tmp_path: Path) -> None:
    seeds = fuzzers / "corpus" / name
    grown = tmp_path / "grown"  # what is new goes here, so that every run begins with the same
    grown.mkdir()
    limits = [f"-runs={RUNS}", "-seed=1", "-timeout=10", "-rss_limit_mb=1024", "-max_len=8192", "-verbosity=0"]
    folders = [grown, *([seeds] if seeds.is_dir() else [])]
    ran = subprocess.run(
        [fuzzers / name, *limits, f"-artifact_prefix={tmp_path}/", *folders],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
