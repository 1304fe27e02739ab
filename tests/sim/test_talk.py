"""Talking to a VM, from the client through the API and the node to the (simulated) guest."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import unix_connect

from volant.client.extract import Extractor, extract
from volant.client.forward import Forward, Forwarder
from volant.client.pack import Packer
from volant.core.errors import Forbidden, GuestUnreachable, InvalidInput, NotFound, Unavailable, WrongState
from volant.guest.file_records import FileEntry

from .host import World
from .talking import talk


def read_until(lines: Any, wanted: str) -> str:
    """What came of a partner's output until ``wanted`` is in it."""
    seen = b""
    for _, content in lines:
        seen += content
        if wanted.encode() in seen:
            return seen.decode()
    raise AssertionError(f"{wanted!r} never came: {seen!r}")


async def test_a_shell_on_a_terminal_sees_its_size_change_and_its_exit_code_comes_back(world: World) -> None:
    async with talk(world) as at:

        def converse() -> tuple[str, int | None]:
            with at.client.vms.exec("web", ("sh",), stdin=True, tty={"rows": 24, "cols": 80, "term": "xterm"}) as running:
                lines = iter(running)
                seen = read_until(lines, "$ ")
                running.write_stdin(b"size\r")
                seen += read_until(lines, "24 80\r\n$ ")
                running.resize(50, 132)
                running.write_stdin(b"size\r")
                seen += read_until(lines, "50 132\r\n$ ")
                running.write_stdin(b"exit 7\r")
                seen += b"".join(content for _, content in lines).decode()
            return seen, running.code

        seen, code = await at.off(converse)
        assert code == 7
        assert "size\r\n" in seen, "the terminal echoes what is typed"


async def test_an_interrupt_key_and_term_reach_the_program(world: World) -> None:
    async with talk(world) as at:

        def interrupt() -> int | None:
            with at.client.vms.exec("web", ("sleep", "1000"), stdin=True, tty={"rows": 24, "cols": 80}) as running:
                running.write_stdin(b"\x03")
                assert b"".join(content for _, content in running) == b"^C"
            return running.signal

        assert await at.off(interrupt) == 2

        def environment() -> bytes:
            with at.client.vms.exec("web", ("env",), tty={"rows": 24, "cols": 80, "term": "vt220"}) as running:
                return b"".join(content for _, content in running)

        assert b"TERM=vt220\r\n" in await at.off(environment)


async def test_what_an_agent_of_an_earlier_version_lacks_is_refused_by_name(world: World) -> None:
    async with talk(world) as at:
        at.guest.capabilities = ("exec", "logs", "renew", "freeze", "sync", "clone")
        run = at.plane.node._runs[at.vm.uid]
        run.link._session._writer.transport.abort()  # type: ignore[union-attr]
        await run.link.wait_for(lambda state: not state.connected, 10)
        await run.link.wait_for(lambda state: state.connected and state.hello is not None, 10)

        def with_tty() -> None:
            with at.client.vms.exec("web", ("sh",), tty={"rows": 24, "cols": 80}) as running:
                list(running)

        for asked in (
            with_tty,
            lambda: at.client.vms.attach("web"),
            lambda: at.client.vms.stat_file("web", "/etc"),
            lambda: at.client.vms.write_files("web", "/etc", [b""]),
        ):
            with pytest.raises(WrongState, match=r"too old to .*: build its plugin again"):
                await at.off(asked)

        def plain() -> bytes:
            with at.client.vms.exec(
                "web",
                ("echo", "still"),
            ) as running:
                return b"".join(content for _, content in running)

        assert await at.off(plain) == b"still\n"


async def test_three_hundred_execs_at_once_are_all_answered(world: World) -> None:
    async with talk(world) as at:
        from volant.node.door import ExecRequest

        async def one(number: int) -> bytes:
            async with at.plane.node.open_exec(at.vm.uid, ExecRequest(argv=("echo", str(number)))) as session:
                return b"".join([content async for _, content in session])

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = [group.create_task(one(number)) for number in range(300)]
        assert [task.result() for task in running] == [b"%d\n" % number for number in range(300)]


async def test_one_may_write_to_a_workload_and_many_may_look(world: World) -> None:
    async with talk(world, stdin=True) as at:

        def attach() -> str:
            with at.client.vms.attach("web", stdin=True) as first, at.client.vms.attach("web") as second:
                with pytest.raises(Unavailable, match="somebody else writes"):
                    at.client.vms.attach("web", stdin=True)
                first.write_stdin(b"hello workload\n")
                assert "hello workload" in read_until(iter(first), "hello workload")
                return read_until(iter(second), "hello workload")

        assert "hello workload" in await at.off(attach)
        assert (await at.plane.intents.vms.get("web")).status.ready


async def test_a_workload_without_stdin_takes_none(world: World) -> None:
    async with talk(world) as at:
        with pytest.raises(Forbidden, match="without stdin"):
            await at.off(lambda: at.client.vms.attach("web", stdin=True))


async def test_ports_carry_bytes_both_ways_and_halves_end_alone(world: World) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = await reader.read()
        writer.write(b"%d bytes:" % len(content) + content[::-1])
        await writer.drain()
        writer.close()

    async with talk(world) as at:
        at.guest.ports[80] = answer
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        forwarder = Forwarder(
            at.client.connection, "/api/v1/vms/web", [Forward(0, 80), Forward(0, 81)], address="127.0.0.1", host=None,
            tell=told.put_nowait,
        )  # fmt: skip
        forwarding = asyncio.create_task(forwarder.run())
        try:
            async with asyncio.timeout(30):
                ports = {event["remote"]: event["port"] for event in [await told.get(), await told.get()]}
                content = os.urandom(1_000_000)

                async def ask() -> bytes:
                    reader, writer = await asyncio.open_connection("127.0.0.1", ports[80])
                    writer.write(content)
                    writer.write_eof()
                    got = await reader.read()
                    writer.close()
                    return got

                answers = await asyncio.gather(*(ask() for _ in range(8)))
                assert set(answers) == {b"1000000 bytes:" + content[::-1]}
                events = [await told.get() for _ in range(16)]
                assert sorted(event["event"] for event in events) == ["closed"] * 8 + ["opened"] * 8
                assert {event["sent_bytes"] for event in events if event["event"] == "closed"} == {1_000_000}

                reader, writer = await asyncio.open_connection("127.0.0.1", ports[81])
                assert await reader.read() == b""
                writer.close()
                failed = await told.get()
                assert (failed["event"], "nobody listens" in failed["message"]) == ("failed", True)
        finally:
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)


def make_tree(root: Path) -> Path:
    tree = root / "site"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "index.html").write_bytes(b"<p>hello</p>")
    (tree / "big").write_bytes(os.urandom(700_001))
    (tree / "empty").write_bytes(b"")
    (tree / "deep" / "er" / ("long-" + "n" * 150)).write_text("ü")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "secret").write_text("s")
    (tree / "secret").chmod(0o600)
    (tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "pipe")
    (tree / "deep").chmod(0o2750)
    os.utime(tree / "index.html", ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    os.utime(tree / "deep", ns=(1_600_000_000_000_000_001, 1_600_000_000_000_000_001))
    return tree


def describe_tree(root: Path) -> dict[str, Any]:
    """Everything that a copy is to keep, by path."""
    found: dict[str, Any] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        info = path.lstat()
        content: Any = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = None if path.is_symlink() else stat.S_IMODE(info.st_mode) & 0o777
        found[str(path.relative_to(root))] = (stat.S_IFMT(info.st_mode), mode, info.st_mtime_ns, content)
    return found


async def test_a_tree_comes_back_as_it_went(world: World, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    back = tmp_path / "back"
    back.mkdir()
    async with talk(world) as at:

        def there_and_back() -> None:
            made = at.client.vms.write_files("web", "/srv", Packer(str(tree), "site"))
            assert made["entries"] == len(list(tree.rglob("*"))) + 1
            with at.client.vms.read_files("web", "/srv/site") as archive, Extractor(str(back)) as extractor:
                extract(archive, extractor)

        await at.off(there_and_back)
        assert describe_tree(back / "site") == describe_tree(tree)
        found = await at.off(lambda: at.client.vms.stat_file("web", "/srv/site/run.sh"))
        assert (found["type"], found["mode"], found["name"]) == ("file", 0o755, "run.sh")
        await at.off(lambda: at.client.vms.write_files("web", "/srv", Packer(str(tree / "secret"), "other"), owner="33:34"))
        found = await at.off(lambda: at.client.vms.stat_file("web", "/srv/other"))
        assert (found["uid"], found["gid"], found["size"]) == (33, 34, 1)


async def test_the_archive_is_one_that_other_programs_read(world: World) -> None:
    async with talk(world) as at:
        at.guest.files.write("/srv/a", b"a" * 513)

        def read() -> bytes:
            with at.client.vms.read_files("web", "/srv") as archive:
                return b"".join(archive)

        with tarfile.open(fileobj=io.BytesIO(await at.off(read))) as opened:
            assert opened.getnames() == ["srv", "srv/a"]
            content = opened.extractfile("srv/a")
            assert content is not None
            assert content.read() == b"a" * 513

        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as writing:
            info = tarfile.TarInfo("n" * 200)
            info.size = 3
            writing.addfile(info, io.BytesIO(b"gnu"))
        await at.off(lambda: at.client.vms.write_files("web", "/srv", [made.getvalue()]))
        assert at.guest.files.read("/srv/" + "n" * 200) == b"gnu"


@pytest.mark.parametrize(
    ("path", "archive", "error", "message"),
    [
        ("/nowhere", b"", NotFound, "not there"),
        ("/etc/hostname", b"", InvalidInput, "no directory"),
        ("etc", b"", InvalidInput, "absolute"),
        ("/srv", b"x" * 2000, InvalidInput, "no tar archive"),
        ("/srv", bytes(100), InvalidInput, "ends in the middle"),
    ],
)
async def test_copies_that_cannot_be_are_refused_with_the_reason(
    world: World, path: str, archive: bytes, error: type[Exception], message: str
) -> None:
    async with talk(world) as at:
        with pytest.raises(error, match=message):
            await at.off(lambda: at.client.vms.write_files("web", path, [archive]))


async def test_an_archive_that_leads_out_makes_nothing_outside(world: World) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as writing:
        writing.addfile(tarfile.TarInfo("../escaped"))
    async with talk(world) as at:
        with pytest.raises(InvalidInput, match="leads out"):
            await at.off(lambda: at.client.vms.write_files("web", "/srv", [made.getvalue()]))


async def test_what_goes_wrong_in_the_middle_of_a_copy_is_told(world: World) -> None:
    async with talk(world) as at:
        at.guest.files.put("/srv", FileEntry(path="a", type="file", size=4_000_000), bytes(4_000_000))

        loop = asyncio.get_running_loop()

        def read_and_cut() -> None:
            with at.client.vms.read_files("web", "/srv") as archive:
                chunks = iter(archive)
                next(chunks)
                run = at.plane.node._runs[at.vm.uid]
                loop.call_soon_threadsafe(run.link._session._writer.transport.abort)  # type: ignore[union-attr]
                for _ in chunks:
                    pass

        with pytest.raises(GuestUnreachable, match="agent"):
            await at.off(read_and_cut)


async def test_a_console_that_nobody_holds_is_read_and_not_typed_at(world: World) -> None:
    async with talk(world) as at:
        at.plane.node.places.console(at.vm.uid).write_bytes(b"boot line\n")

        def read() -> str:
            with at.client.vms.open_console("web") as console:
                return read_until(iter(console), "boot line")

        assert "boot line" in await at.off(read)


@pytest.mark.parametrize("path", ["exec", "attach", "console", "ports/80"])
async def test_a_web_page_of_another_place_is_refused(world: World, path: str) -> None:
    async with talk(world) as at:

        def connect() -> str | bytes:
            with unix_connect(
                at.address.removeprefix("unix://"), f"ws://localhost/api/v1/vms/web/{path}", origin="http://evil.example"
            ) as opened:
                return opened.recv()

        assert '"forbidden"' in str(await at.off(connect))


async def test_three_hundred_followers_see_every_line_and_one_that_does_not_read_harms_nobody(world: World) -> None:
    async with talk(world) as at:
        node, uid = at.plane.node, at.vm.uid
        stuck = node.read_logs(uid, follow=True)
        await anext(stuck)

        async def follow() -> int:
            count = 0
            async for line in node.read_logs(uid, follow=True):
                count += line.text.startswith("line ")
                if line.text == "line 199":
                    return count
            raise AssertionError("the log ended")

        following = [asyncio.create_task(follow()) for _ in range(300)]
        for number in range(200):
            at.guest.log(f"line {number}")
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            counts = await asyncio.gather(*following)
        assert set(counts) == {200}
        await stuck.aclose()  # type: ignore[attr-defined]  # it is a generator
