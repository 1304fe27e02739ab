"""Waiting and watching through the client."""

from __future__ import annotations

import pytest

from volant.client.client import Client
from volant.core.errors import PreconditionFailed, TimedOut
from volant.core.vm import VM

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

WEB = {"name": "web", "plugin": "nginx", "labels": {"tier": "web"}}


@pytest.fixture
def client(served: Served) -> Client:
    return Client(served.address)


def test_resources_come_back_typed(client: Client) -> None:
    vm = client.vms.create(WEB)
    assert isinstance(vm, VM)
    assert vm == client.vms.get("web") == client.vms.list({"tier": "web"})[0]
    assert client.vms.list({"tier": "db"}) == []
    assert vm.revision == 1


def test_a_watch_has_an_end(client: Client) -> None:
    client.vms.create(WEB)
    with pytest.raises(TimedOut):
        list(client.vms.watch("web", timeout_s=0.05))


def test_power_names_the_generation_it_means(client: Client) -> None:
    vm = client.vms.create(WEB)
    stopped = client.vms.stop("web", generation=vm.meta.generation)
    assert stopped.spec.power == "stopped"
    with pytest.raises(PreconditionFailed):
        client.vms.restart("web", generation=vm.meta.generation)
    assert client.vms.start("web").spec.power == "running"


def test_delete_gives_the_vm_that_goes(client: Client) -> None:
    client.vms.create(WEB)
    going = client.vms.delete("web")
    assert going is not None
    assert going.deleting
    with pytest.raises(TimedOut):
        client.vms.delete("web", wait=True, timeout_s=0.01)
