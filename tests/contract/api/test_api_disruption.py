"""The disruption budget of a deployment, as who stops VMs by hand meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from volant.cli.volar import run
from volant.client.client import Client
from volant.core.errors import OverBudget

from .plane import SimulatedVolantd

LIMIT_S = 60.0


@pytest.fixture
def client(volantd: SimulatedVolantd) -> Iterator[Client]:
    """One deployment of two replicas of which none may be missing."""
    client = Client(volantd.unix)
    wanted = {"name": "held", "replicas": 2, "vm": {"plugin": "nginx"}, "budget": {"min_available": "100%"}}
    client.deployments.create(wanted, wait="complete", timeout_s=LIMIT_S)
    yield client
    client.deployments.delete("held", wait=True, timeout_s=LIMIT_S)


ENDS: dict[str, Callable[[Client, bool], object]] = {
    "stop": lambda client, disrupt: client.vms.stop("held-1", disrupt=disrupt),
    "restart": lambda client, disrupt: client.vms.restart("held-1", disrupt=disrupt),
    "suspend": lambda client, disrupt: client.vms.suspend("held-1", disrupt=disrupt),
    "delete": lambda client, disrupt: client.vms.delete("held-1", disrupt=disrupt),
}


@pytest.mark.parametrize("verb", ENDS)
def test_what_would_be_too_many_is_refused_unless_it_is_meant(client: Client, verb: str) -> None:
    before = client.vms.get("held-1")
    with pytest.raises(OverBudget, match="2 of 2 replicas are available, and at least 100% have to be"):
        ENDS[verb](client, False)
    after = client.vms.get("held-1")
    assert (after.meta, after.spec) == (before.meta, before.spec), "nothing was changed"
    ENDS[verb](client, True)
    client.deployments.scale("held", 2, wait="available", timeout_s=LIMIT_S)


def test_the_command_line_says_how_it_is_done_all_the_same(
    volantd: SimulatedVolantd, client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOLANT_API", volantd.unix)
    assert run(("vms", "restart", "held-0", "--no-wait")) == 4
    said = capfd.readouterr().err
    assert "held-0 cannot be stopped now" in said and "--disrupt" in said
    for verb in ("stop", "suspend", "restart", "delete"):
        assert run(("vms", verb, "--help")) == 0
        assert "--disrupt" in capfd.readouterr().out
    assert run(("vms", "restart", "held-0", "--no-wait", "--disrupt")) == 0
