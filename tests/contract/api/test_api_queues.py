"""What waits in the controllers and who leads, by the API and by volar, of a whole volantd."""

from __future__ import annotations

import asyncio
import json

import pytest

import volant
from volant.cli.volar import run
from volant.core.errors import InvalidInput, NotFound
from volant.core.queue import Why
from volant.store.contract import Key

from .plane import SimulatedVolantd

GHOST = Key("VM", "default", "ghost")


@pytest.fixture(scope="module")
def client(volantd: SimulatedVolantd) -> volant.Client:
    return volant.Client(volantd.unix)


async def _plan_a_look(volantd: SimulatedVolantd) -> None:
    volantd.plane.vms.queue.add_after(GHOST, 3600, Why.RETRY)


async def _forget_it(volantd: SimulatedVolantd) -> None:
    volantd.plane.vms.queue.forget(GHOST)


def test_every_controller_is_told_of(client: volant.Client, volantd: SimulatedVolantd) -> None:
    queues = {queue["name"]: queue for queue in client.system.queues()}
    assert {"vm", "network", "plugin", "pool", "snapshot"} <= queues.keys()
    assert len(queues) == len(volantd.plane.engines) + len(volantd.plane.leader.engines), "no two have one name"
    vm = queues["vm"]
    assert vm["running"]
    assert vm["passes"] > 3
    assert sum(bucket["count"] for bucket in vm["histogram"]) == vm["passes"]
    assert vm["seconds"] >= vm["seconds_max"] > 0


def test_a_key_is_told_with_why_it_waits(client: volant.Client, volantd: SimulatedVolantd) -> None:
    volantd.run(_plan_a_look(volantd))
    try:
        found = client.system.queue("vm")
        key = next(key for key in found["keys"] if key["name"] == "ghost")
        assert (key["state"], key["why"]) == ("planned", "retry")
        assert 3000 < key["due_in_s"] <= 3600
        few = client.system.queue("vm", limit=0)
        assert few["keys"] == []
        assert few["left_out"] >= 1
    finally:
        volantd.run(_forget_it(volantd))


def test_what_is_not_there_is_said(client: volant.Client) -> None:
    with pytest.raises(NotFound, match="no controller named 'nothing'"):
        client.system.queue("nothing")
    with pytest.raises(InvalidInput, match="not a number"):
        client.connection.request("GET", "/api/v1/system/queues/vm", query={"limit": "many"})


def test_a_single_node_leads(client: volant.Client) -> None:
    leader = client.system.leader()
    assert (leader["node"], leader["here"]) == ("here", True)
    assert leader["since"]


def test_volar_shows_queues(
    volantd: SimulatedVolantd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOLANT_API", volantd.unix)
    volantd.run(_plan_a_look(volantd))
    try:
        assert run(("system", "queues")) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:2] == ["CONTROLLER", "WAITING"]
        assert any(line.split()[0] == "vm" for line in lines[1:])
        assert run(("system", "queues", "vm")) == 0
        assert any("ghost" in line and "retry" in line for line in capsys.readouterr().out.splitlines())
        assert run(("system", "queues", "vm", "--json")) == 0
        assert json.loads(capsys.readouterr().out)["queue"]["name"] == "vm"
        assert run(("system", "queues", "nothing")) != 0
        assert "there are" in capsys.readouterr().err
        assert run(("system", "info")) == 0
        assert "here, this volantd" in capsys.readouterr().out
    finally:
        volantd.run(_forget_it(volantd))


async def test_the_asynchronous_client_reads_them_too(volantd: SimulatedVolantd) -> None:
    async with asyncio.timeout(30):
        client = volant.AsyncClient(volantd.unix)
        assert (await client.system.queue("vm"))["queue"]["kind"] == "VM"
        assert (await client.system.leader())["node"] == "here"
