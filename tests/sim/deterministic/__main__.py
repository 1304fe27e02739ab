"""``python -m tests.sim.deterministic --seed N --trace``: one seed again. ``--count 1000 --from N``: many."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from .plants import PLANTS
from .runner import run_seed

HASH_SEED = "PYTHONHASHSEED"
SAY_EVERY = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.deterministic", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first of many seeds (default 1)")
    parser.add_argument("--count", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so many seconds, however many seeds that were")
    parser.add_argument("--keep-going", action="store_true", help="go on after a seed that fails")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="put this defect into volantd, to see it found")
    parser.add_argument("--tally", action="store_true", help="say what was done and what was broken, how often, in all")
    given = parser.parse_args()
    if os.environ.get(HASH_SEED) != "0":
        # The order of a set of texts is part of the run.
        again = [sys.executable, "-m", "tests.sim.deterministic", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, HASH_SEED: "0"})  # this very program
    if given.seed is not None:
        return 1 if run_one(given.seed, given.plant, trace=given.trace) else 0
    tally: Counter[str] | None = Counter() if given.tally else None
    return run_many(given.first, given.count, given.seconds, given.plant, keep_going=given.keep_going, tally=tally)


def run_many(
    first: int, count: int, seconds: float, plant: str | None, *, keep_going: bool, tally: Counter[str] | None = None
) -> int:
    began, failed, ran = time.monotonic(), 0, 0
    for seed in range(first, first + count):
        if seconds and time.monotonic() - began > seconds:
            break
        ran += 1
        failed += run_one(seed, plant, brief=True, tally=tally)
        if ran % SAY_EVERY == 0:
            say(f"{ran} seeds from {first} so far, {failed} failed")
        if failed and not keep_going:
            break
    for word, times in sorted((tally or {}).items()):
        say(f"tally {times} {word}")
    say(f"{ran} seeds from {first} in {time.monotonic() - began:.0f} s, {failed} failed")
    return 1 if failed else 0


def run_one(
    seed: int, plant: str | None = None, *, trace: bool = False, brief: bool = False, tally: Counter[str] | None = None
) -> bool:
    """Whether it failed."""
    began = time.monotonic()
    told = run_seed(seed, echo=say if trace else None, plant=None if plant is None else PLANTS[plant])
    if tally is not None:
        for kind, counts in (("fault", told.faults), ("mischief", told.mischief), ("done", told.operations)):
            tally.update({f"{kind} {word}": count for word, count in counts.items()})
    if brief and not told.failure:
        return False
    if told.failure and not trace:
        say("\n".join(told.tail))
    faults = " ".join(f"{kind}={count}" for kind, count in sorted(told.faults.items()))
    say(f"seed {seed}: {told.failure or 'holds'}")
    say(f"  {told.simulated_s:.0f} simulated s in {time.monotonic() - began:.1f} s")
    say(f"  {told.revision} transactions, {told.lives} lives of volantd")
    say(f"  {told.acknowledged} of {told.asked} requests acknowledged; faults: {faults}")
    say(f"  trace {told.digest}, {told.length} lines")
    if told.failure:
        say(f"  again: python -m tests.sim.deterministic --seed {seed} --trace" + (f" --plant {plant}" if plant else ""))
    return bool(told.failure)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main()
    # Worlds that have ended are not taken apart: what killed programs left would say so.
    os._exit(code)
