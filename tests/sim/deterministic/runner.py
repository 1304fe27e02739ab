"""Runs seeds, one world each, and says what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import structlog

from .entropy import seeded
from .loop import SimulatedLoop
from .scenario import Plant, Scenario, Told

MEMORY = Path("/dev/shm")  # a directory of the run's own is made in it
CORES, MEMORY_MIB = 2, 8192
"""Of the simulated host, whatever the real one has."""

HALF_FULL = os.statvfs_result((4096, 4096, 1 << 23, 1 << 22, 1 << 22, 1 << 20, 1 << 19, 1 << 19, 0, 255))
"""Its disk, of 32 GiB."""


class _Bugs:
    """What controllers said of themselves in the log: defects that they survived."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.on_found: Callable[[str], None] = lambda told: None

    def __call__(self, logger: object, method: str, event: dict[str, object]) -> dict[str, object]:
        if raised := event.get("exc_info"):
            error = raised if isinstance(raised, BaseException) else sys.exc_info()[1]
            told = "" if error is None else "".join(traceback.format_exception(error)[-3:])
            words = " ".join(str(event[key]) for key in ("event", "kind", "name") if key in event)
            self.found.append(f"{words}: {told.strip()}")
            self.on_found(self.found[-1])
        raise structlog.DropEvent


def run_seed(seed: int, *, echo: Callable[[str], None] | None = None, plant: Plant | None = None) -> Told:
    """One seed in this process. The same seed tells the same, whenever and wherever it is run with PYTHONHASHSEED=0."""
    root = Path(tempfile.mkdtemp(prefix="volant-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    failure: BaseException | None = None
    # Everything is below the directory that it runs in: where that is must not stand in any message.
    with contextlib.chdir(root), _quiet() as bugs, _same_machine(), seeded(random.Random(f"{seed} entropy")):
        loop = SimulatedLoop(random.Random(f"{seed} schedule"))
        asyncio.set_event_loop(loop)
        Path("host").mkdir()
        scenario = Scenario(loop, Path("host"), seed, echo=echo, plant=plant)
        bugs.on_found = scenario.note_bug
        try:
            loop.run_until_complete(scenario.run())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # it is what this is for
            failure = error
        finally:
            _close(loop)
    shutil.rmtree(root, ignore_errors=True)
    world = scenario.world
    return Told(
        seed=seed,
        failure="" if failure is None else describe(failure),
        digest=world.trace.digest,
        length=world.trace.length,
        tail=tuple(world.trace.tail),
        simulated_s=loop.time(),
        lives=world.lives,
        asked=scenario.user.asked,
        acknowledged=scenario.user.acknowledged,
        faults=dict(world.faults.counts),
        revision=world.registry.revision,
        operations=scenario.user.counts,
        mischief=scenario.mischief.counts,
    )


def describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _same_machine() -> Iterator[None]:
    """Nothing of the real machine decides anything."""
    with (
        mock.patch("volant.plane.count_cores", return_value=CORES),
        mock.patch("volant.plane.count_memory_mib", return_value=MEMORY_MIB),
        mock.patch("volant.plane.read_boot_id", return_value="0" * 32),
        mock.patch("volant.plane.read_nameservers", return_value=("192.0.2.53",)),
        mock.patch("volant.plane.read_cpu_features", return_value=()),
        mock.patch("os.statvfs", return_value=HALF_FULL),
    ):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[_Bugs]:
    """No log, no warnings about what killed programs leave; and the collector, which would run at moments of its own, rests."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda told: None
    bugs = _Bugs()
    structlog.configure(processors=[bugs])
    gc.collect()
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield bugs
        finally:
            gc.collect()
            gc.enable()
            sys.unraisablehook = sys.__unraisablehook__
            logging.disable(logging.NOTSET)
            structlog.reset_defaults()


def _close(loop: SimulatedLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the world has ended
    loop.close()
    asyncio.set_event_loop(None)
