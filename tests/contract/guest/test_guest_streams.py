"""Terminals, attaching, ports and files, asked of every agent there is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volant.core.errors import Forbidden, GuestUnreachable, InvalidInput, NotFound, Unavailable
from volant.guest.exec import ExecStream
from volant.guest.file_records import FileEntry
from volant.guest.protocol import ExecRequest, Tty

if TYPE_CHECKING:
    from guest_agents import KestrelTest, Simulated

    Linked = Simulated | KestrelTest

LIMIT_S = 20.0


async def read_until(program: ExecStream, wanted: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(LIMIT_S):
        async for kind, content in program:
            assert kind == "stdout"
            seen += content
            if wanted in seen:
                return seen
    raise AssertionError(f"{wanted!r} never came: {seen!r}")


async def need(linked: Linked, capability: str) -> None:
    state = await linked.connected()
    assert state.hello is not None
    assert capability in state.hello.capabilities


async def test_a_program_on_a_terminal_echoes_and_ends_at_its_end_of_file(linked: Linked) -> None:
    await need(linked, "tty")
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("cat",), stdin=True, tty=Tty(rows=30, cols=100))) as program:
        await program.write_stdin(b"typed\r")
        await read_until(program, b"typed\r\ntyped\r\n")
        await program.close_stdin()
        async with asyncio.timeout(LIMIT_S):
            assert (await program.result()).code == 0


async def test_an_interrupt_typed_at_a_terminal_ends_the_program(linked: Linked) -> None:
    await need(linked, "tty")
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("sleep", "1000"), stdin=True, tty=Tty())) as program:
        await program.write_stdin(b"\x03")
        async with asyncio.timeout(LIMIT_S):
            assert (await program.result()).signal == 2


async def test_a_terminal_changes_its_size(linked: Linked) -> None:
    await need(linked, "tty")
    await linked.configured()
    # The simulated shell has no programs; what it answers to "size" is what stty would say.
    line = b"size\r" if type(linked).__name__ == "Simulated" else b"stty size\r"
    async with await linked.link.open_exec(ExecRequest(argv=("sh",), stdin=True, tty=Tty(rows=31, cols=99))) as program:
        await program.write_stdin(line)
        await read_until(program, b"31 99")
        await program.resize(50, 132)
        await program.write_stdin(line)
        await read_until(program, b"50 132")
        await program.write_stdin(b"exit 5\r")
        async with asyncio.timeout(LIMIT_S):
            assert (await program.result()).code == 5


async def test_term_is_what_was_asked_for(linked: Linked) -> None:
    await need(linked, "tty")
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("env",), tty=Tty(term="vt220"))) as program:
        await read_until(program, b"TERM=vt220\r\n")


async def serve_echo(linked: Linked) -> tuple[int, asyncio.Server | None]:
    """The port of a server in the guest that sends back what it read once its reader has ended."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    if type(linked).__name__ == "Simulated":
        linked.guest.ports[7] = echo  # type: ignore[union-attr]  # the simulated one
        return 7, None
    # The real one runs on this host, and so does what listens here.
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1]), server


async def test_bytes_through_a_port_come_back_and_each_half_ends_alone(linked: Linked) -> None:
    await need(linked, "connect")
    await linked.configured()
    port, server = await serve_echo(linked)
    content = os.urandom(3_000_000)
    try:
        async with asyncio.timeout(LIMIT_S), await linked.link.open_port(port) as connection:

            async def send() -> None:
                await connection.write(content)
                await connection.write_eof()

            sending = asyncio.ensure_future(send())
            got = bytearray()
            while data := await connection.read():
                got += data
            await sending
        assert got == content
    finally:
        if server is not None:
            server.close()


async def test_a_port_without_a_listener_is_refused_by_name(linked: Linked) -> None:
    await need(linked, "connect")
    await linked.configured()
    with pytest.raises(Unavailable, match="port 1 of the guest was not reached") as raised:
        await linked.link.open_port(1)
    assert not isinstance(raised.value, GuestUnreachable)


def root_of(linked: Linked, tmp_path: Path) -> str:
    """A directory in the guest for files. The real agent's root is this host's here."""
    if type(linked).__name__ == "Simulated":
        return "/srv"
    root = tmp_path / "files"
    root.mkdir(exist_ok=True)
    return str(root)


async def read_all(linked: Linked, path: str) -> dict[str, tuple[FileEntry, bytes]]:
    found: dict[str, tuple[FileEntry, bytes]] = {}
    last = ""
    async with asyncio.timeout(LIMIT_S), await linked.link.read_files(path) as reader:
        async for item in reader:
            if isinstance(item, FileEntry):
                last = item.path
                found[last] = (item, b"")
            else:
                found[last] = (found[last][0], found[last][1] + item)
        assert reader.end is not None
        assert reader.end.entries == len(found)
    return found


async def test_files_come_back_as_they_went(linked: Linked, tmp_path: Path) -> None:
    await need(linked, "files")
    await linked.configured()
    root = root_of(linked, tmp_path)
    content = os.urandom(1_000_003)
    mtime_ns = 1_700_000_000_123_456_789
    entries = [
        (FileEntry(path="site", type="directory", mode=0o2750, mtime_ns=mtime_ns), b""),
        (FileEntry(path="site/big", type="file", mode=0o640, mtime_ns=mtime_ns, size=len(content)), content),
        (FileEntry(path="site/empty", type="file", mode=0o4755, mtime_ns=mtime_ns), b""),
        (FileEntry(path="site/link", type="symlink", mode=0o777, mtime_ns=mtime_ns, target="../elsewhere"), b""),
        (FileEntry(path="site/ümlaut", type="file", mode=0o600, mtime_ns=mtime_ns, size=1, uid=33, gid=34), b"x"),
    ]
    async with asyncio.timeout(LIMIT_S), await linked.link.write_files(root) as writer:
        for entry, data in entries:
            await writer.write_entry(entry)
            await writer.write_content(data)
        end = await writer.finish(LIMIT_S)
    assert (end.entries, end.bytes) == (5, len(content) + 1)

    found = await read_all(linked, f"{root}/site")
    assert set(found) == {".", "big", "empty", "link", "ümlaut"}
    for entry, data in entries:
        came, came_data = found["." if entry.path == "site" else entry.path.removeprefix("site/")]
        assert came_data == data
        assert (came.type, came.uid, came.gid, came.target) == (entry.type, entry.uid, entry.gid, entry.target)
        assert came.mtime_ns == mtime_ns, came
        if entry.type != "symlink":
            assert came.mode == entry.mode, came
    only = await read_all(linked, f"{root}/site/big")
    assert list(only) == ["."]
    assert only["."][1] == content


async def test_files_that_are_not_there_and_places_that_hold_none_are_named(linked: Linked, tmp_path: Path) -> None:
    await need(linked, "files")
    await linked.configured()
    root = root_of(linked, tmp_path)
    with pytest.raises(NotFound):
        await read_all(linked, f"{root}/nothing")
    with pytest.raises(NotFound):
        await linked.link.write_files(f"{root}/nothing")
    async with await linked.link.write_files(root) as writer:
        await writer.write_entry(FileEntry(path="file", type="file", size=1))
        await writer.write_content(b"x")
        await writer.finish(LIMIT_S)
    with pytest.raises(InvalidInput):
        await linked.link.write_files(f"{root}/file")


async def test_directories_on_the_way_are_made_and_a_file_there_is_named(linked: Linked, tmp_path: Path) -> None:
    await need(linked, "files")
    await linked.configured()
    root = root_of(linked, tmp_path)
    async with asyncio.timeout(LIMIT_S), await linked.link.write_files(root) as writer:
        await writer.write_entry(FileEntry(path="absent/file", type="file", size=1))
        await writer.write_content(b"x")
        await writer.finish(LIMIT_S)
    assert (await read_all(linked, f"{root}/absent"))["file"][1] == b"x"
    with pytest.raises(InvalidInput, match="absent/file/more"):
        async with asyncio.timeout(LIMIT_S), await linked.link.write_files(root) as writer:
            await writer.write_entry(FileEntry(path="absent/file/more", type="file", size=1))
            await writer.write_content(b"x")
            await writer.finish(LIMIT_S)


async def test_a_link_is_read_as_what_it_is_and_written_through(linked: Linked, tmp_path: Path) -> None:
    await need(linked, "files")
    await linked.configured()
    root = root_of(linked, tmp_path)
    async with asyncio.timeout(LIMIT_S), await linked.link.write_files(root) as writer:
        await writer.write_entry(FileEntry(path="real", type="directory", mode=0o755))
        await writer.write_entry(FileEntry(path="link", type="symlink", mode=0o777, target="real"))
        await writer.finish(LIMIT_S)
    assert (await read_all(linked, f"{root}/link"))["."][0].target == "real"
    async with asyncio.timeout(LIMIT_S), await linked.link.write_files(f"{root}/link") as writer:
        await writer.write_entry(FileEntry(path="through", type="file"))
        await writer.finish(LIMIT_S)
    assert "through" in await read_all(linked, f"{root}/real")


async def test_a_copy_that_is_given_up_leaves_no_half_and_the_channel_as_it_was(linked: Linked, tmp_path: Path) -> None:
    await need(linked, "files")
    await linked.configured()
    root = root_of(linked, tmp_path)
    async with await linked.link.write_files(root) as writer:
        await writer.write_entry(FileEntry(path="half", type="file", size=1_000_000))
        await writer.write_content(bytes(100_000))
    async with await linked.link.write_files(root) as writer:
        await writer.write_entry(FileEntry(path="whole", type="file", size=1))
        await writer.write_content(b"x")
        await writer.finish(LIMIT_S)
    assert set(await read_all(linked, root)) >= {".", "whole"}
    assert "half" not in await read_all(linked, root)


async def test_a_workload_is_looked_at_by_many_and_written_to_by_one(linked: Linked) -> None:
    await need(linked, "attach")
    await linked.connected()
    # cat is what echoes; the simulated workload logs what it is told, whatever it is called.
    document = linked.document(stdin=True).replace(b"exec sleep 1000", b"exec cat")
    await linked.link.configure(document)
    await linked.link.wait_for(lambda state: state.workload is not None and state.workload.state == "running", 10.0)
    async with await linked.link.open_attach(stdin=True) as first, await linked.link.open_attach() as second:
        assert not first.has_tty
        with pytest.raises(Unavailable):
            await linked.link.open_attach(stdin=True)
        await first.write_stdin(b"hello\n")
        await read_until(first, b"hello\n")
        await read_until(second, b"hello\n")
    async with asyncio.timeout(LIMIT_S), await linked.link.open_attach(stdin=True) as again:
        await again.write_stdin(b"once more\n")
        await read_until(again, b"once more\n")
    assert linked.link.state.workload is not None
    assert linked.link.state.workload.state == "running"


async def test_a_workload_without_stdin_takes_none(linked: Linked) -> None:
    await need(linked, "attach")
    await linked.configured()
    with pytest.raises(Forbidden):
        await linked.link.open_attach(stdin=True)


async def test_hundreds_of_programs_at_once_are_all_answered(linked: Linked) -> None:
    await linked.configured()

    async def one(number: int) -> bytes:
        async with await linked.link.open_exec(ExecRequest(argv=("echo", str(number)))) as program:
            return b"".join([content async for _, content in program])

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(300)]
    assert [task.result() for task in running] == [b"%d\n" % number for number in range(300)]
