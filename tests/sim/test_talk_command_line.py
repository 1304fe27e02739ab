"""shell, attach, cp and port-forward as people type them, on a terminal, on a simulated guest."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .host import World
from .talking import Talk, talk

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminal import Terminal

VOLAR = Path(sys.executable).parent / "volar"


def environment(at: Talk) -> dict[str, str]:
    return {**os.environ, "VOLANT_API": at.address, "TERM": "xterm"}


def on_terminal(at: Talk, *words: str) -> Terminal:
    return Terminal([VOLAR, *words], environment(at))


async def volar(at: Talk, *words: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = await at.off(
        lambda: subprocess.run([VOLAR, *words], env=environment(at), capture_output=True, input=stdin, timeout=60), 60
    )
    assert done.returncode == code, done.stderr
    return done


async def test_a_shell_has_the_terminal_and_gives_it_back(world: World) -> None:
    async with talk(world) as at:

        def use() -> None:
            # The simulated sh is asked for a script; it is a terminal's shell all the same.
            with on_terminal(at, "vms", "exec", "-it", "web", "--", "sh") as terminal:
                terminal.read_until("$ ")
                terminal.type("size\r")
                terminal.read_until("24 80")
                assert not terminal.is_restored, "every key goes through"
                terminal.resize(50, 132)
                terminal.read_until("$ ")
                terminal.ask_until("size\r", "$ ", "50 132")
                terminal.type("exit 3\r")
                assert terminal.wait() == 3
                assert terminal.is_restored

        await at.off(use, 60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_the_terminal_is_given_back_when_the_command_is_ended_from_outside(world: World, number: int) -> None:
    async with talk(world) as at:

        def use() -> None:
            with on_terminal(at, "vms", "exec", "-it", "web", "--", "sh") as terminal:
                terminal.read_until("$ ")
                terminal.send_signal(number)
                assert terminal.wait() == 128 + number
                assert terminal.is_restored

        await at.off(use, 60)


async def test_a_shell_that_is_not_there_is_said_so(world: World) -> None:
    async with talk(world) as at:
        done = await volar(at, "vms", "shell", "web", stdin=b"", code=127)
        assert done.stderr == b"", "without a terminal the simulated sh ends as one does that knows no command"


async def test_looking_at_a_workload_without_a_terminal_ends_with_ctrl_c_and_it_goes_on(world: World) -> None:
    async with talk(world, stdin=True) as at:

        def use() -> None:
            with on_terminal(at, "vms", "attach", "web") as terminal:
                terminal.type("hello workload\n")
                terminal.read_until("hello workload\r\n")
                terminal.read_until("hello workload")
                terminal.type("\x03")
                assert terminal.wait() == 0
                assert "detached" in terminal.seen.decode()

        await at.off(use, 60)
        assert (await at.plane.intents.vms.get("web")).status.ready


async def test_keys_detach_from_a_workload_with_a_terminal_and_a_beginning_of_them_is_typed(world: World) -> None:
    async with talk(world, tty=True) as at:

        def use() -> None:
            with on_terminal(at, "vms", "attach", "--detach-keys", "ctrl-p,ctrl-q", "web") as terminal:
                terminal.read_until("detaches")
                terminal.type("a\x10b\r")
                terminal.read_until("a\x10b")
                assert not terminal.is_restored
                terminal.type("\x10\x11")
                assert terminal.wait() == 0
                assert "detached" in terminal.seen.decode()
                assert terminal.is_restored

        await at.off(use, 60)
        assert (await at.plane.intents.vms.get("web")).status.ready


async def test_copies_follow_the_rules_that_people_know(world: World, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a").write_text("a")
    (site / "sub").mkdir()
    (site / "sub" / "b").write_text("b")
    out = tmp_path / "out"
    out.mkdir()
    async with talk(world) as at:
        files = at.guest.files
        await volar(at, "vms", "cp", str(site), "web:/srv")
        assert files.read("/srv/site/sub/b") == b"b"
        await volar(at, "vms", "cp", f"{site}/.", "web:/srv")
        assert files.read("/srv/sub/b") == b"b"
        await volar(at, "vms", "cp", str(site), "web:/srv/new")
        assert files.read("/srv/new/sub/b") == b"b"
        await volar(at, "vms", "cp", str(site / "a"), "web:/srv/renamed")
        assert files.read("/srv/renamed") == b"a"
        assert files.find("/srv/renamed").entry.uid == 0
        await volar(at, "vms", "cp", "--owner", "33:34", str(site / "a"), "web:/srv")
        assert (files.find("/srv/a").entry.uid, files.find("/srv/a").entry.gid) == (33, 34)

        await volar(at, "vms", "cp", "web:/srv/site", str(out))
        assert (out / "site" / "sub" / "b").read_text() == "b"
        await volar(at, "vms", "cp", "web:/srv/site/.", str(out))
        assert (out / "sub" / "b").read_text() == "b"
        await volar(at, "vms", "cp", "web:/srv/site", str(out / "new"))
        assert (out / "new" / "sub" / "b").read_text() == "b"
        await volar(at, "vms", "cp", "web:/srv/site/a", str(out / "named"))
        assert (out / "named").read_text() == "a"
        done = await volar(at, "vms", "cp", "--json", "web:/srv/site", str(out / "again"))
        assert json.loads(done.stdout) == {"entries": 4, "bytes": 2, "skipped": 0, "torn": 0}

        archive = (await volar(at, "vms", "cp", "web:/srv/site", "-")).stdout
        await volar(at, "vms", "cp", "-", "web:/etc", stdin=archive)
        assert files.read("/etc/site/a") == b"a"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["web:/nowhere", "."], 3, b"not there"),
        (["nothing", "web:/srv"], 2, b"not there"),
        (["site", "web:/etc/hostname"], 2, b"no directory"),
        (["site/a", "web:/nowhere/"], 3, b"not there"),
        (["a:/x", "b:/y"], 2, b"one of SRC and DST"),
        (["a", "b"], 2, b"one of SRC and DST"),
        (["web:", "b"], 2, b"no path"),
        (["other:/x", "."], 3, b"other"),
        (["web:/etc", "site/a"], 2, b"no directory"),
        (["site", "other:/x"], 3, b"other"),
    ],
)
async def test_copies_that_cannot_be_say_why(world: World, tmp_path: Path, words: list[str], code: int, said: bytes) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a").write_text("a")
    async with talk(world) as at:
        done = await at.off(
            lambda: subprocess.run(
                [VOLAR, "vms", "cp", *words], env=environment(at), capture_output=True, cwd=tmp_path, timeout=60
            )
        )
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert b"Traceback" not in done.stderr
        assert os.listdir(tmp_path / "site") == ["a"]


async def test_forwarded_ports_are_told_and_carry_connections(world: World) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()

    async with talk(world) as at:
        at.guest.ports[80] = answer
        forwarding = await asyncio.create_subprocess_exec(
            VOLAR, "vms", "port-forward", "--json", "web", "0:80", env=environment(at),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(30):
                assert forwarding.stdout is not None
                event = json.loads(await forwarding.stdout.readline())
                assert (event["event"], event["remote"]) == ("listening", 80)
                reader, writer = await asyncio.open_connection("127.0.0.1", event["port"])
                writer.write(b"hi\n")
                assert await reader.read() == b"you said hi\n"
                writer.close()
                assert json.loads(await forwarding.stdout.readline())["event"] == "opened"
                closed = json.loads(await forwarding.stdout.readline())
                assert (closed["event"], closed["sent_bytes"], closed["received_bytes"]) == ("closed", 3, 12)
                forwarding.send_signal(signal.SIGINT)
                assert await forwarding.wait() == 130
        finally:
            if forwarding.returncode is None:
                forwarding.kill()
                await forwarding.wait()


@pytest.mark.parametrize(("ports", "code"), [("x", 2), ("70000", 2), ("1:2:3", 2), ("-", 2)])
async def test_ports_that_are_none_are_refused(world: World, ports: str, code: int) -> None:
    async with talk(world) as at:
        done = await volar(at, "vms", "port-forward", "web", ports, code=code)
        assert b"is no port" in done.stderr


async def test_a_port_of_this_machine_that_is_taken_is_said(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with talk(world) as at:
            done = await volar(at, "vms", "port-forward", "web", f"{taken.getsockname()[1]}:80", code=1)
            assert b"cannot be listened at" in done.stderr
