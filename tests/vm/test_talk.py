"""Talking to a real guest: shell, copies, ports, console, attach, and very many programs at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from volant.client.client import Client

from .daemon import BIN, Daemon

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminal import Terminal

EXECS = 200


@pytest.fixture
def web(daemon: Daemon) -> Daemon:
    """A volantd with the VM ``web`` ready."""
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    return daemon


def on_terminal(daemon: Daemon, *words: str) -> Terminal:
    return Terminal([BIN / "volar", *words], {**os.environ, "VOLANT_API": daemon.api, "TERM": "xterm"})


def test_a_shell_is_a_terminal_with_resize_signals_and_an_exit_code(web: Daemon) -> None:
    with on_terminal(web, "vms", "shell", "web") as terminal:
        terminal.read_until("# ")
        terminal.type("stty size; echo $TERM-$((6*7))\r")
        assert "24 80" in terminal.read_until("xterm-42")
        terminal.resize(50, 132)
        terminal.read_until("# ")
        terminal.ask_until("stty size\r", "# ", "50 132")
        # Said by a child that has the terminal: bash loses what is typed when Ctrl-C comes while it makes one.
        terminal.type("sh -c 'echo be$((1))gan; exec sleep 1000'\r")
        terminal.read_until("be1gan")
        terminal.type("\x03")
        terminal.read_until("^C")
        terminal.read_until("# ")
        terminal.type("echo after-$((1+1))\r")
        terminal.read_until("after-2")
        terminal.type("exit 7\r")
        assert terminal.wait() == 7
        assert terminal.is_restored
    done = web.volar("vms", "exec", "-t", "web", "--", "sh", "-c", "tty; kill -9 $$", check=False)
    assert done.returncode == 128 + 9
    assert done.stdout.startswith(b"/dev/pts/")


def make_tree(root: Path) -> Path:
    tree = root / "site"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(5_000_001))
    (tree / "empty").write_bytes(b"")
    (tree / "deep" / "er" / ("long-" + "n" * 150)).write_text("ü")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "secret").write_text("s")
    (tree / "secret").chmod(0o600)
    (tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "pipe")
    (tree / "deep").chmod(0o750)
    for path in (tree / "big", tree / "deep" / "er", tree / "deep", tree):
        os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    return tree


def describe_tree(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        info = path.lstat()
        content: Any = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = None if path.is_symlink() else stat.S_IMODE(info.st_mode)
        found[str(path.relative_to(root))] = (stat.S_IFMT(info.st_mode), mode, info.st_mtime_ns, content)
    return found


def test_a_tree_comes_back_byte_for_byte_with_modes_and_times(web: Daemon, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    web.volar("vms", "cp", str(tree), "web:/srv")
    listed = web.volar("vms", "exec", "web", "--", "stat", "-c", "%a %u %s", "/srv/site/big", "/srv/site/run.sh").stdout
    assert listed == b"644 0 5000001\n755 0 10\n"
    web.volar("vms", "cp", "web:/srv/site", str(tmp_path / "back"))
    assert describe_tree(tmp_path / "back") == describe_tree(tree)
    done = web.volar("vms", "cp", "web:/srv/nothing", str(tmp_path), check=False)
    assert (done.returncode, b"/srv/nothing" in done.stderr) == (3, True)
    # A link in the guest leads nowhere else than in the guest.
    web.volar("vms", "exec", "web", "--", "ln", "-s", "/etc", "/srv/way")
    web.volar("vms", "cp", str(tree / "run.sh"), "web:/srv/way")
    assert web.volar("vms", "exec", "web", "--", "cat", "/etc/run.sh").stdout == b"#!/bin/sh\n"
    assert not Path("/etc/run.sh").exists()


@pytest.fixture
def forwarded(web: Daemon) -> Iterator[int]:
    """A port of this machine that leads to nginx."""
    command = [BIN / "volar", "vms", "port-forward", "--json", "web", "0:80"]
    with subprocess.Popen(command, env={**os.environ, "VOLANT_API": web.api}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])
        process.terminate()


def test_http_through_a_forwarded_port(web: Daemon, forwarded: int) -> None:
    web.volar("vms", "exec", "web", "--", "sh", "-c", "head -c 3000000 /dev/urandom > /tmp/big")
    with urlopen(f"http://127.0.0.1:{forwarded}/", timeout=30) as answer:
        page = answer.read()
    assert page == web.fetch(web.vm("web"))
    with ThreadPoolExecutor(8) as pool:

        def fetch(_number: int) -> bytes:
            with urlopen(f"http://127.0.0.1:{forwarded}/", timeout=30) as answer:
                return bytes(answer.read())

        assert set(pool.map(fetch, range(40))) == {page}


def test_what_is_typed_at_the_console_reaches_the_guest(daemon: Daemon, install: Callable[..., None]) -> None:
    script = 'exec </dev/console >/dev/console 2>&1; echo console-is-ready; while read -r line; do echo "heard: $line"; done'
    install("typed", ["/bin/sh", "-c", script])
    daemon.volar("vms", "create", "typed", "--plugin", "typed")
    with on_terminal(daemon, "vms", "console", "-i", "typed") as terminal:
        terminal.read_until("console-is-ready")
        terminal.type("hello guest\r")
        terminal.read_until("heard: hello guest")
        second = daemon.volar("vms", "console", "-i", "typed", check=False, stdin=b"")
        assert (second.returncode, b"somebody else types" in second.stderr) == (4, True)
        with on_terminal(daemon, "vms", "console", "-i", "--force", "typed") as taker:
            taker.read_until("heard: hello guest")
            assert terminal.wait() == 4
            assert "took over" in terminal.seen.decode()
            taker.type("mine now\r")
            taker.read_until("heard: mine now")
            taker.type("\x1d")
            assert taker.wait() == 0
            assert taker.is_restored


def test_attaching_to_a_workload_that_takes_input(
    daemon: Daemon, nginx: Path, manifest: dict[str, Any], install: Callable[..., None]
) -> None:
    workload = {**manifest["workload"], "type": "exec", "entrypoint": ["/bin/cat"], "stdin": True}
    install("echoing", ["/bin/cat"], workload=workload)
    daemon.volar("vms", "create", "echoing", "--plugin", "echoing")
    with on_terminal(daemon, "vms", "attach", "echoing") as terminal:
        terminal.read_until("detaches")
        terminal.type("hello workload\n")
        terminal.read_until("hello workload\r\nhello workload")
        with on_terminal(daemon, "vms", "attach", "--no-stdin", "echoing") as second:
            second.read_until("attached to")
            terminal.type("both see\n")
            terminal.read_until("both see\r\nboth see")
            second.read_until("both see")
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert daemon.vm("echoing")["status"]["phase"] == "Running"
    assert b"both see" in daemon.volar("vms", "logs", "echoing").stdout


def test_two_hundred_programs_at_once_are_all_answered(web: Daemon) -> None:
    client = Client(web.api)

    def run(number: int) -> tuple[bytes, int | None]:
        with client.vms.exec("web", ("echo", str(number))) as running:
            return b"".join(content for _, content in running), running.code

    with ThreadPoolExecutor(EXECS) as pool:
        assert list(pool.map(run, range(EXECS))) == [(b"%d\n" % number, 0) for number in range(EXECS)]
    assert web.vm("web")["status"]["ready"]
