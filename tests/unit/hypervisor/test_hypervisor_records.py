"""What is read from the files that a run leaves, and from a device's mode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.core.errors import HostError, WrongState
from volant.core.ids import RunId
from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import explain_death, read_ending, read_tail, write_ending
from volant.hypervisor.lock import is_locked, take_lock
from volant.hypervisor.process import ExitRecord, open_process, read_start_time
from volant.hypervisor.qemu.ending import explain_stop
from volant.hypervisor.qemu.kvm import find_kvm_access
from volant.hypervisor.qemu.monitor import Stop
from volant.hypervisor.record import read_record, write_record
from volant.hypervisor.socket import bind_socket, connect_socket, remove_sockets

RUN = RunId("a" * 32)


def test_a_record_is_roots_alone_and_read_back(tmp_path: Path) -> None:
    write_record(tmp_path / "exit.json", ExitRecord(signal=9))
    assert (tmp_path / "exit.json").stat().st_mode & 0o777 == 0o600
    assert read_record(tmp_path / "exit.json", ExitRecord) == ExitRecord(signal=9)
    assert [path.name for path in tmp_path.iterdir()] == ["exit.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"code": "one"}', b"\xff"])
def test_a_record_that_is_none_is_as_absent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "exit.json").write_bytes(content)
    assert read_record(tmp_path / "exit.json", ExitRecord) is None
    assert read_record(tmp_path / "other.json", ExitRecord) is None


def test_a_record_that_cannot_be_written_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        write_record(tmp_path / "gone" / "exit.json", ExitRecord())


def test_an_ending_is_its_own_runs(tmp_path: Path) -> None:
    ending = Ending(kind="powered_off", message="the guest powered off")
    write_ending(tmp_path, RUN, ending)
    assert read_ending(tmp_path, RUN) == ending
    assert read_ending(tmp_path, RunId("b" * 32)) is None


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("guest-shutdown", "shutdown", "powered_off"),
        ("guest-reset", "shutdown", "reset"),
        ("guest-panic", "shutdown", "reset"),
        ("", "guest-panicked", "reset"),
        ("", "internal-error", "crashed"),
        ("", "shutdown", "powered_off"),
    ],
)
def test_the_monitors_word_says_how_a_guest_stopped(tmp_path: Path, reason: str, status: str, kind: str) -> None:
    assert explain_stop(Stop(status, reason), tmp_path).kind == kind


@pytest.mark.parametrize(
    ("console", "kind"),
    [
        (b"[ 1.1] reboot: Power down\n", "powered_off"),
        (b"[ 1.1] reboot: Restarting system\n", "reset"),
        (b"[ 1.1] Kernel panic - not syncing: Attempted to kill init!\n" + b"[ 1.1]  RIP: 0033\n" * 20, "reset"),
        (b"[ 1.1] reboot: Restarting system\nguest: ready\n[ 1.1] reboot: Power down\n", "powered_off"),
        (b"\xff\xfe", "powered_off"),
    ],
)
def test_the_console_says_what_nobody_heard(tmp_path: Path, console: bytes, kind: str) -> None:
    (tmp_path / "console.log").write_bytes(console)
    assert explain_stop(Stop("shutdown", ""), tmp_path).kind == kind


def test_a_death_is_told_from_the_holders_record(tmp_path: Path) -> None:
    assert "holder (pid 7)" in explain_death(tmp_path, 7).message
    write_record(tmp_path / "exit.json", ExitRecord(signal=11))
    ending = explain_death(tmp_path, 7)
    assert (ending.kind, ending.signal, "SIGSEGV" in ending.message) == ("crashed", 11, True)
    (tmp_path / "qemu.log").write_text("one\nlast words\n")
    write_record(tmp_path / "exit.json", ExitRecord(code=1))
    ending = explain_death(tmp_path, 7)
    assert (ending.exit_status, ending.message.endswith("status 1: last words")) == (1, True)
    write_record(tmp_path / "exit.json", ExitRecord(error="execv: No such file"))
    assert "could not be started: execv" in explain_death(tmp_path, 7).message


def test_a_logs_end_begins_where_the_run_did(tmp_path: Path) -> None:
    log = tmp_path / "qemu.log"
    assert read_tail(log) == ""
    log.write_text("of the run before\nof this run\n")
    assert read_tail(log, after=len("of the run before\n")) == "of this run"
    assert read_tail(log, after=10_000).startswith("of the run before"), "the log was rotated since"
    log.write_bytes(b"x" * 100_000)
    assert len(read_tail(log)) == 4096


def test_the_lock_is_held_as_long_as_its_descriptor(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    lock = take_lock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(WrongState):
        take_lock(tmp_path)
    os.close(lock)
    assert not is_locked(tmp_path)


def test_sockets_are_reached_through_paths_of_any_length(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    with bind_socket(directory, "qmp.sock") as listener, connect_socket(directory, "qmp.sock") as connection:
        taken, _ = listener.accept()
        with taken:
            connection.send(b"x")
            assert taken.recv(1) == b"x"
    remove_sockets(directory)
    assert not list(directory.iterdir())


async def test_a_process_is_itself_only_with_its_start_time() -> None:
    start_time = read_start_time(os.getpid())
    assert start_time is not None
    process = open_process(os.getpid(), start_time)
    assert process is not None and not process.is_dead
    process.close()
    assert open_process(os.getpid(), start_time + 1) is None


@pytest.mark.parametrize(
    ("mode", "group", "reason", "expected"),
    [
        (0o666, 0, "", None),
        (0o660, 108, "", 108),
        (0o600, 108, "root alone", None),
        (0o660, 0, "root alone", None),
        (0o640, 108, "root alone", None),
    ],
)
def test_who_may_open_the_device_is_read_from_its_mode(
    monkeypatch: pytest.MonkeyPatch, mode: int, group: int, reason: str, expected: int | None
) -> None:
    class Device(type(Path())):  # type: ignore[misc]  # the class of paths is chosen when pathlib is loaded
        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            return os.stat_result((0o020000 | mode, 0, 0, 1, 0, group, 0, 0, 0, 0))

    monkeypatch.setattr(os, "access", lambda *_: True)
    access = find_kvm_access(Device("/dev/kvm"))
    assert (reason in access.reason, access.group) == (True, expected)
    assert bool(access.reason) == bool(reason)


def test_a_device_that_is_absent_is_said_to_be(tmp_path: Path) -> None:
    assert find_kvm_access(tmp_path / "kvm").is_absent
