"""The holder as volantd uses it, with a shell in the place of a VM process."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import is_gone

from volant.core.errors import Unavailable
from volant.native import find_native

pytestmark = pytest.mark.spawns

UID = 754321
SEEN = [word for place in ("/usr", "/bin", "/lib", "/lib64") if os.path.lexists(place) for word in ("--bind", place)]
"""What the programs of these tests need of the host's files."""

LIMIT_S = 10.0


def find_holder() -> Path:
    try:
        return find_native("holder")
    except Unavailable as error:
        pytest.skip(str(error))


def may_unshare() -> bool:
    probe = ["unshare", "-n", "-m", "-i", "-u", "true"]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True, check=False).returncode == 0


class Held:
    """A holder that runs ``script`` under /bin/sh, and everything volantd would have opened for it."""

    def __init__(self, folder: Path, command: list[str], *, log_max: int, keep: tuple[int, ...], extra: tuple[str, ...]) -> None:
        self.folder = folder
        self.serial, holder_end = socket.socketpair()
        self.path = folder / "console.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(16)
        self.lock_path = folder / "lock"
        lock = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        arguments = [
            find_holder(), "--dir-fd", directory, "--lock-fd", lock, "--console-fd", holder_end.fileno(),
            "--console-listen-fd", listener.fileno(), "--uid", UID, "--gid", UID, "--log-max", log_max,
            *(word for fd in keep for word in ("--keep-fd", fd)), *SEEN, *extra, "--", *command,
        ]  # fmt: skip
        given = (directory, lock, holder_end.fileno(), listener.fileno(), *keep)
        self.process = subprocess.Popen(
            [str(word) for word in arguments], pass_fds=given, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        holder_end.close()
        listener.close()
        os.close(lock)
        os.close(directory)
        self.clients: list[socket.socket] = []

    def read(self, name: str) -> dict[str, Any]:
        """A file that the holder writes, once it is there."""
        wait_until(lambda: (self.folder / name).exists())
        document: dict[str, Any] = json.loads((self.folder / name).read_text())
        return document

    def end(self) -> dict[str, Any]:
        assert self.process.wait(LIMIT_S) == 0
        return self.read("exit.json")

    def output(self) -> str:
        return (self.folder / "qemu.log").read_text()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_S)
        client.connect(str(self.path))
        self.clients.append(client)
        return client

    def is_locked(self) -> bool:
        with self.lock_path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.serial.close()
        self.process.terminate()
        self.process.wait(LIMIT_S)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        select.select([], [], [], 0.005)


def read_bytes(path: Path) -> bytes:
    """Nothing while the file is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def receive(client: socket.socket, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        chunk = client.recv(65536)
        assert chunk, f"the console closed after {seen!r}"
        seen += chunk
    return seen


Hold = Callable[..., Held]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    if not may_unshare():
        pytest.skip("needs root with the right to make namespaces")
    started: list[Held] = []

    def begin(
        script: str,
        *,
        command: list[str] | None = None,
        log_max: int = 8192,
        keep: tuple[int, ...] = (),
        extra: tuple[str, ...] = (),
    ) -> Held:
        folder = tmp_path / str(len(started))
        folder.mkdir(mode=0o700)
        (folder / "exit.json").write_text("of an earlier run")
        started.append(Held(folder, command or ["/bin/sh", "-c", script], log_max=log_max, keep=keep, extra=extra))
        return started[-1]

    yield begin
    for held in started:
        held.close()


def test_exit_code_and_output_are_kept(hold: Hold) -> None:
    held = hold("echo out; echo err >&2; exit 7")
    ending = held.end()
    assert ending.pop("at_unix_ns") > 1_600_000_000 * 10**9
    assert ending == {"code": 7}
    assert held.output() == "out\nerr\n"


def test_signal_is_kept(hold: Hold) -> None:
    # No signal of its own ends the first process of a namespace; what the kernel itself finds wrong does.
    held = hold("exec mount -t tmpfs none /usr")
    assert held.end()["signal"] == signal.SIGSYS


def test_program_that_is_not_there_is_an_error(hold: Hold) -> None:
    held = hold("", command=["/nonexistent/qemu"])
    ending = held.end()
    assert ending["error"] == "/nonexistent/qemu: No such file or directory"
    assert not (held.folder / "process.json").exists()


def test_record_names_both_processes(hold: Hold) -> None:
    held = hold("exec sleep 60")
    record = held.read("process.json")

    def start_time(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])

    assert record == {
        "pid": record["pid"],
        "start_time": start_time(record["pid"]),
        "holder_pid": held.process.pid,
        "holder_start_time": start_time(held.process.pid),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }


def test_records_of_an_earlier_run_are_removed(hold: Hold) -> None:
    held = hold("exec sleep 60")
    held.read("process.json")
    assert not (held.folder / "exit.json").exists()


def test_process_has_no_rights_left(hold: Hold) -> None:
    held = hold("exec sleep 60")
    pid = held.read("process.json")["pid"]
    status = read_status(pid)
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["Gid"].split() == [str(UID)] * 4
    assert status["Groups"] == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]


def test_process_is_alone_in_its_namespaces(hold: Hold) -> None:
    held = hold("cat /proc/self/net/dev; exec sleep 60")
    pid = held.read("process.json")["pid"]
    for name in ("net", "mnt", "pid", "ipc", "uts", "cgroup"):
        assert Path(f"/proc/{pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink()
    wait_until(lambda: "lo:" in held.output())
    assert [line.split(":")[0].strip() for line in held.output().splitlines() if ":" in line] == ["lo"]


def test_supplementary_groups_and_file_limit_are_given(hold: Hold) -> None:
    held = hold("id -G; ulimit -n", extra=("--group", "12", "--nofile", "77"))
    held.end()
    assert held.output().split() == [str(UID), "12", "77"]


def test_process_inherits_what_is_kept_and_nothing_else(hold: Hold) -> None:
    read_end, write_end = os.pipe()
    pipe = Path(f"/proc/self/fd/{write_end}").readlink()
    held = hold("exec sleep 60", keep=(write_end,))
    os.close(write_end)
    os.close(read_end)
    pid = held.read("process.json")["pid"]
    # The program opens files of its own for a moment while it starts.
    wait_until(lambda: {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()} == {0, 1, 2, write_end})
    assert Path(f"/proc/{pid}/fd/{write_end}").readlink() == pipe
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")


def test_holder_keeps_nothing_of_its_process(hold: Hold) -> None:
    read_end, write_end = os.pipe()
    pipe = Path(f"/proc/self/fd/{write_end}").readlink()
    held = hold("exec sleep 60", keep=(write_end,))
    os.close(write_end)
    os.close(read_end)
    held.read("process.json")
    wait_until(lambda: pipe not in {entry.readlink() for entry in Path(f"/proc/{held.process.pid}/fd").iterdir()})


def test_holder_keeps_only_the_right_to_kill(hold: Hold) -> None:
    held = hold("exec sleep 60")
    held.read("process.json")
    wait_until(lambda: read_status(held.process.pid)["CapEff"] == f"{1 << 5:016x}")
    status = read_status(held.process.pid)
    assert status["CapPrm"] == f"{1 << 5:016x}"
    assert status["NoNewPrivs"] == "1"


def test_killed_holder_takes_its_process_along(hold: Hold) -> None:
    held = hold("exec sleep 60")
    pid = held.read("process.json")["pid"]
    held.process.kill()
    held.process.wait(LIMIT_S)
    wait_until(lambda: is_gone(pid))
    assert not (held.folder / "exit.json").exists()


def test_sigterm_ends_the_process_and_is_accounted_for(hold: Hold) -> None:
    held = hold("trap '' TERM; while :; do sleep 1; done")
    held.read("process.json")
    held.process.terminate()
    assert held.end()["signal"] == signal.SIGKILL


def test_holder_ignores_what_ends_a_session(hold: Hold) -> None:
    held = hold("exec sleep 60")
    held.read("process.json")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGQUIT):
        held.process.send_signal(number)
    client = held.connect()
    wait_until(lambda: _sees(held, client))
    held.serial.sendall(b"still here")
    receive(client, b"still here")


def test_lock_is_held_until_the_end(hold: Hold) -> None:
    held = hold("exec sleep 60")
    held.read("process.json")
    assert held.is_locked()
    held.process.terminate()
    held.end()
    assert not held.is_locked()


def test_console_goes_to_the_log_and_to_every_client(hold: Hold) -> None:
    held = hold("exec sleep 60")
    clients = [held.connect(), held.connect()]
    # Each has been accepted once what it sees comes from the holder.
    wait_until(lambda: all(_sees(held, client) for client in clients))
    held.serial.sendall(b"hello, operator\n")
    for client in clients:
        receive(client, b"hello, operator\n")
    wait_until(lambda: b"hello, operator\n" in read_bytes(held.folder / "console.log"))


def _sees(held: Held, client: socket.socket) -> bool:
    held.serial.sendall(b".")
    return bool(select.select([client], [], [], 0.05)[0])


def test_only_the_first_client_types(hold: Hold) -> None:
    held = hold("exec sleep 60")
    held.serial.settimeout(LIMIT_S)
    first = held.connect()
    wait_until(lambda: _sees(held, first))
    second = held.connect()
    wait_until(lambda: _sees(held, second))
    second.sendall(b"nobody hears this")
    first.sendall(b"ls\n")
    assert held.serial.recv(100) == b"ls\n"
    first.close()
    wait_until(lambda: _types(held, second))


def _types(held: Held, client: socket.socket) -> bool:
    client.sendall(b"x")
    return bool(select.select([held.serial], [], [], 0.05)[0])


def test_ninth_client_is_turned_away(hold: Hold) -> None:
    held = hold("exec sleep 60")
    for _ in range(8):
        held.connect()
    ninth = held.connect()
    assert ninth.recv(1) == b""


def test_logs_are_bounded_and_a_client_that_reads_nothing_blocks_nobody(hold: Hold) -> None:
    held = hold("exec sleep 60", log_max=8192)
    idle = held.connect()
    wait_until(lambda: _sees(held, idle))
    held.serial.settimeout(LIMIT_S)
    for number in range(256):
        held.serial.sendall(f"{number:08d}".encode() * 512)
    held.serial.sendall(b"the end")
    log, older = held.folder / "console.log", held.folder / "console.log.1"
    # Between two files there is none for a moment.
    wait_until(lambda: read_bytes(log).endswith(b"the end"))
    assert log.stat().st_size <= 8192
    assert older.stat().st_size == 8192


def test_output_of_the_process_is_bounded(hold: Hold) -> None:
    held = hold("head -c 1000000 /dev/zero; echo last words >&2")
    held.end()
    assert (held.folder / "qemu.log").read_bytes().endswith(b"last words\n")
    assert sum((held.folder / name).stat().st_size for name in ("qemu.log", "qemu.log.1")) <= 2 * 65536


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--uid", "5"],
        ["--dir-fd", "999", "--", "/bin/true"],
        [
            "--dir-fd",
            "0",
            "--lock-fd",
            "0",
            "--console-fd",
            "0",
            "--console-listen-fd",
            "0",
            "--uid",
            "5",
            "--gid",
            "5",
            "--",
            "/bin/true",
        ],
        ["--nonsense", "1", "--", "/bin/true"],
        ["--bind", "relative", "--", "/bin/true"],
        ["--bind", "/usr/../etc", "--", "/bin/true"],
        ["--bind", "/", "--", "/bin/true"],
        ["--work", "/etc/..", "--", "/bin/true"],
        ["--cgroup-fd", "999", "--", "/bin/true"],
        ["--uid", "-1", "--", "/bin/true"],
    ],
)
def test_wrong_command_line_is_refused(arguments: list[str]) -> None:
    done = subprocess.run([find_holder(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: holder" in done.stderr


def test_root_is_refused(tmp_path: Path) -> None:
    descriptors = [os.open(tmp_path, os.O_RDONLY) for _ in range(4)]
    try:
        named = zip(("--dir-fd", "--lock-fd", "--console-fd", "--console-listen-fd"), descriptors, strict=True)
        words = [word for name, fd in named for word in (name, str(fd))]
        command = [find_holder(), *words, "--uid", "0", "--gid", "0", "--", "/bin/true"]
        done = subprocess.run(command, pass_fds=descriptors, capture_output=True, text=True, check=False)
    finally:
        for fd in descriptors:
            os.close(fd)
    assert done.returncode == 2
    assert "does not run as root" in done.stderr
