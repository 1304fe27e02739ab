"""What volantd relies on in an agent, asked of every agent there is."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volant.core.errors import GuestUnreachable, InvalidInput, NotFound, WrongState
from volant.guest.collector import LogCollector
from volant.guest.document import Document, decode_document, digest_document
from volant.guest.protocol import ExecRequest
from volant.observe.logstore import LogStore

if TYPE_CHECKING:
    from guest_agents import KestrelTest, Simulated

    Linked = Simulated | KestrelTest


async def run(linked: Linked, *argv: str, stdin: bytes | None = None) -> tuple[bytes, bytes, object]:
    """stdout, stderr and end of a program run to its end."""
    out = {"stdout": b"", "stderr": b""}
    async with await linked.link.open_exec(ExecRequest(argv=argv, stdin=stdin is not None)) as program:

        async def feed() -> None:
            await program.write_stdin(stdin or b"")
            await program.close_stdin()

        feeding = asyncio.ensure_future(feed() if stdin is not None else asyncio.sleep(0))
        async for kind, content in program:
            out[kind] += content
        await feeding
        ended = await program.result()
    return out["stdout"], out["stderr"], ended.code if ended.code is not None else -(ended.signal or 0)


async def test_a_guest_waits_is_configured_and_runs_its_workload(linked: Linked) -> None:
    state = await linked.connected()
    assert state.hello is not None
    assert (state.hello.state, state.hello.config_digest) == ("waiting", "")
    assert "exec" in state.hello.capabilities
    state = await linked.configured()
    assert state.workload is not None
    assert state.workload.pid
    state = await linked.link.wait_for(lambda s: s.health is not None and s.health.state == "healthy", 10.0)
    await linked.cut()
    again = await linked.connected()
    assert again.hello is not None
    assert state.hello is not None
    assert again.hello.boot_id == state.hello.boot_id
    assert (again.hello.state, again.hello.config_digest) == ("configured", digest_document(linked.document()))
    again = await linked.link.wait_for(lambda s: s.connected and s.health is not None, 10.0)
    assert again.workload == state.workload


async def test_one_configuration_holds(linked: Linked) -> None:
    await linked.configured()
    await linked.link.configure(linked.document())
    with pytest.raises(WrongState):
        await linked.link.configure(linked.document(user="1:1"))


async def test_a_wrong_configuration_is_refused_by_name_and_another_taken(linked: Linked) -> None:
    await linked.connected()
    document = linked.document()
    with pytest.raises(InvalidInput, match="hostname"):
        await linked.link.configure(document.replace(b'"hostname":"web"', b'"hostname":"a/b"'))
    assert isinstance(decode_document(document), Document)
    await linked.configured()


async def test_exec_needs_a_configured_guest_and_a_workload_that_exists(linked: Linked) -> None:
    await linked.connected()
    with pytest.raises(WrongState):
        await run(linked, "true")
    await linked.configured()
    with pytest.raises(NotFound):
        await linked.link.open_exec(ExecRequest(argv=("true",), workload="sidecar"))
    with pytest.raises(InvalidInput):
        await run(linked, "/no/such/program")


async def test_programs_print_and_end(linked: Linked) -> None:
    await linked.configured()
    assert await run(linked, "echo", "a", "b c") == (b"a b c\n", b"", 0)
    assert await run(linked, "false") == (b"", b"", 1)
    assert await run(linked, "sh", "-c", "exit 7") == (b"", b"", 7)


async def test_stdin_passes_through_whole(linked: Linked) -> None:
    await linked.configured()
    content = bytes(range(256)) * 4096
    out, _, code = await run(linked, "cat", stdin=content)
    assert code == 0
    assert out == content
    assert await run(linked, "cat", stdin=b"") == (b"", b"", 0)


async def test_bytes_that_look_like_a_preamble_pass_through(linked: Linked) -> None:
    await linked.configured()
    content = (b"VOLANT\x00\x01" + bytes(48)) * 200
    assert (await run(linked, "cat", stdin=content))[0] == content


async def test_a_signal_ends_a_program(linked: Linked) -> None:
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("sleep", "1000"))) as program:
        await program.send_signal(signal.SIGTERM)
        ended = await program.result()
        assert (ended.code, ended.signal) == (None, signal.SIGTERM)


async def test_output_that_nobody_reads_stalls_its_program_only(linked: Linked) -> None:
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("yes",))) as loud:
        for _ in range(5):
            assert (await linked.link.stats()).memory_total_kb > 0
            assert (await run(linked, "echo", "still here"))[0] == b"still here\n"
        seen = 0
        async for _, content in loud:
            seen += len(content)
            if seen > 2_000_000:
                break
    assert (await run(linked, "echo", "and after"))[0] == b"and after\n"


async def test_many_programs_at_once(linked: Linked) -> None:
    await linked.configured()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(run(linked, "echo", str(number))) for number in range(20)]
    assert [task.result()[0] for task in running] == [b"%d\n" % number for number in range(20)]


async def test_what_is_in_flight_fails_and_the_link_comes_back(linked: Linked) -> None:
    await linked.configured()
    async with await linked.link.open_exec(ExecRequest(argv=("yes",))) as loud:
        await linked.cut()
        with pytest.raises(GuestUnreachable):
            async for _ in loud:
                pass
    await linked.connected()
    assert (await run(linked, "echo", "back"))[0] == b"back\n"


async def test_logs_are_read_in_parts_without_loss_or_repetition(linked: Linked) -> None:
    await linked.configured(lines=50)
    wanted = {f"line {number}".encode() for number in range(50)}
    seen: list[bytes] = []
    last = 0
    async with asyncio.timeout(20):
        while not wanted.issubset(seen):
            async with await linked.link.open_logs(after=last, follow=False) as log:
                async for records in log:
                    for record in records:
                        assert record.seq == last + 1
                        last = record.seq
                        seen.append(record.data)
    assert [line for line in seen if line in wanted] == sorted(wanted, key=lambda line: int(line.split()[1]))


async def test_collected_logs_survive_cut_connections(linked: Linked, tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs")
    collector = LogCollector(linked.link, store.begin_run("run"))
    collecting = asyncio.ensure_future(collector.run())
    try:
        await linked.configured(lines=3000)
        wanted = [f"line {number}".encode() for number in range(3000)]
        found: list[bytes] = []
        async with asyncio.timeout(30):
            async for entry in store.follow():
                assert entry.missed == 0
                if entry.record.data.startswith(b"line "):
                    found.append(entry.record.data)
                if len(found) in (100, 1500):
                    await linked.cut()
                if len(found) == len(wanted):
                    break
        assert found == wanted
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        store.close()


async def test_shutdown_powers_the_guest_off(linked: Linked) -> None:
    await linked.configured()
    await linked.link.shutdown(5.0)
    async with asyncio.timeout(10):
        await linked.off.wait()
    await linked.link.wait_for(lambda state: state.stopping is not None, 10.0)
