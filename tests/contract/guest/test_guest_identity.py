"""What volantd relies on when a guest is cloned, frozen and given another identity, asked of every agent there is."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from volant.core.errors import InvalidInput, WrongState
from volant.guest.document import digest_document
from volant.guest.probe import await_echo
from volant.guest.protocol import ExecRequest

if TYPE_CHECKING:
    from guest_agents import KestrelTest, Simulated

    Linked = Simulated | KestrelTest


def rename(document: bytes, hostname: str, secret: bytes, **members: object) -> bytes:
    """``document`` for another guest."""
    content = {**msgspec.json.decode(document), "hostname": hostname, "channel_secret": secret.hex(), **members}
    return msgspec.json.encode(content, order="sorted")


async def test_a_guest_can_be_greeted_and_is_left_as_it_was(agent: Linked) -> None:
    await await_echo(agent.open, agent.clock, timeout_s=10.0)
    await await_echo(agent.open, agent.clock, timeout_s=10.0)
    async with agent.raw_session():
        pass


async def test_a_renewed_guest_keeps_its_workload_and_answers_to_its_new_secret(linked: Linked) -> None:
    before = await linked.configured()
    secret = secrets.token_bytes(32)
    document = rename(linked.document(), "other", secret)
    await linked.link.renew(document, secret=secret)
    assert linked.link.state.hello is not None
    assert linked.link.state.hello.config_digest == digest_document(document)
    await linked.link.renew(document, secret=secret)
    await linked.cut()
    after = await linked.connected()
    assert after.hello is not None
    assert (after.hello.state, after.hello.config_digest) == ("configured", digest_document(document))
    assert after.workload == before.workload
    # The new secret was the first that was tried.
    assert len(linked.writers) == 2


async def test_execs_run_with_the_new_environment(linked: Linked) -> None:
    await linked.configured()
    content = msgspec.json.decode(linked.document())
    content["workloads"][0]["env"] = {"WHO": "other"}
    await linked.link.renew(msgspec.json.encode(content), secret=linked.secret)
    async with await linked.link.open_exec(ExecRequest(argv=("env",))) as program:
        printed = b"".join([data async for _, data in program])
    assert b"WHO=other\n" in printed


async def test_a_renewal_that_is_refused_changes_nothing(linked: Linked) -> None:
    await linked.connected()
    with pytest.raises(WrongState):
        await linked.link.renew(linked.document(), secret=linked.secret)
    await linked.configured()
    secret = secrets.token_bytes(32)
    with pytest.raises(InvalidInput, match="root"):
        await linked.link.renew(rename(linked.document(), "other", secret, root={"writable": "memory"}), secret=secret)
    await linked.cut()
    state = await linked.connected()
    assert state.hello is not None
    assert state.hello.config_digest == digest_document(linked.document())


async def test_a_root_without_a_disk_is_synced_and_not_frozen(linked: Linked) -> None:
    await linked.configured()
    assert await linked.link.freeze(30.0) is False
    assert await linked.link.thaw() is False
    await linked.link.sync()
    with pytest.raises(InvalidInput, match="timeout_ms"):
        await linked.link.freeze(61.0)
