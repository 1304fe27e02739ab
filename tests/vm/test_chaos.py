"""SIGKILL of volantd and of QEMUs at random under a deployment that serves: whoever asks again is answered."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest
from tests.processes import is_gone

from .daemon import Daemon
from .load import Load
from .test_deployments import PORT, create, paged, replicas, wait_deployment
from .test_sleep_kills import wait_order

CHAOS_S = float(os.environ.get("VOLANT_TEST_CHAOS_S", "60"))
SEED = os.environ.get("VOLANT_TEST_SEED", "1")

__all__ = ["paged"]


def test_nobody_who_asks_again_goes_without_an_answer(paged: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon, chance = paged, random.Random(SEED)
    gateway = create(daemon)
    kills = {"volantd": 0, "a guest": 0}
    with Load(daemon, gateway, PORT) as load:
        end = time.monotonic() + CHAOS_S
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.5, 4.0))
            if chance.random() < 0.4:
                daemon.kill()
                kills["volantd"] += 1
                time.sleep(chance.uniform(0, 0.5))
                daemon.start()
            else:
                pids = [vm["status"]["pid"] for vm in replicas(daemon) if vm["status"]["pid"] is not None]
                for pid in chance.sample(pids, min(len(pids), chance.randint(1, 2))):
                    if not is_gone(pid):
                        os.kill(pid, signal.SIGKILL)
                        kills["a guest"] += 1
        wait_deployment(daemon, lambda one: one["status"]["available"] == one["status"]["replicas"] == 3)
    with capsys.disabled():
        sys.stdout.write(f"\n{CHAOS_S:g} s, seed {SEED}: {kills}; {load.describe()}\n")
    assert load.lost == [], load.describe()
    assert set(load.answers) == {"version 1"}
    assert min(kills.values()) > 0
    wait_order(daemon)
    assert sorted(vm["name"] for vm in replicas(daemon)) == ["web-0", "web-1", "web-2"]
