"""Record types are ready before two threads meet over them."""

from __future__ import annotations

import threading

import msgspec
import pytest

from volant.core import types
from volant.core.types import prepare_all_types, prepare_types


class _Inner(msgspec.Struct, frozen=True):
    value: int = 0


class _Outer(msgspec.Struct, frozen=True):
    inner: _Inner = _Inner()


def test_a_type_is_worked_out_once_and_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, made = 0, 0, []
    counting = threading.Lock()

    class Watched:
        def __init__(self, cls: type[msgspec.Struct]) -> None:
            nonlocal inside, most
            with counting:
                inside += 1
                most = max(most, inside)
                made.append(cls)
            gate.wait(0.01)
            with counting:
                inside -= 1

    gate = threading.Event()
    monkeypatch.setattr(types, "_prepared", set())
    monkeypatch.setattr(msgspec.json, "Decoder", Watched)
    threads = [threading.Thread(target=prepare_types, args=(_Outer,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, set(made)) == (1, {_Outer})


def test_all_types_that_can_be_read_are_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    from volant.core.vm import VMStatus
    from volant.hypervisor.machine import Machine

    ready: set[type[msgspec.Struct]] = set()
    monkeypatch.setattr(types, "_prepared", ready)
    prepare_all_types()
    assert {VMStatus, Machine} <= ready
