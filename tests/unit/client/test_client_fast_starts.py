"""Snapshots, templates, pools and what VMs use, through the client."""

from __future__ import annotations

import pytest

from volant.client.client import Client
from volant.core.errors import PreconditionFailed, TimedOut, WrongState
from volant.core.snapshot import Snapshot
from volant.core.template import Template

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it
from ..api.test_api_fast_starts import make_stats  # noqa: TID252  # likewise


@pytest.fixture
def client(served: Served) -> Client:
    made = Client(served.address)
    made.vms.create({"name": "web", "plugin": "nginx"})
    return made


def test_sleep_names_the_generation_it_means(client: Client) -> None:
    assert client.vms.suspend("web", generation=1).spec.power == "suspended"
    with pytest.raises(PreconditionFailed):
        client.vms.resume("web", generation=1)
    assert client.vms.resume("web").spec.power == "running"
    with pytest.raises(TimedOut):
        client.vms.suspend("web", wait="suspended", timeout_s=0.01)


def test_snapshots_come_back_typed(client: Client, served: Served) -> None:
    taken = client.snapshots.create("before", "web", memory=False, labels={"keep": "yes"}, wait=True)
    assert isinstance(taken, Snapshot)
    assert (taken.spec.memory, taken.status.phase, taken.meta.labels) == (False, "Ready", {"keep": "yes"})
    assert client.snapshots.get("before") == taken
    assert client.snapshots.list({"keep": "no"}) == []
    assert [one.name for one in client.snapshots.list()] == ["before"]
    assert client.vms.restore("web", "before", generation=1).spec.snapshot == "before"
    served.plane.snapshots.taken.clear()
    with pytest.raises(TimedOut):
        client.snapshots.create("late", "web", wait=True, timeout_s=0.01)
    going = client.snapshots.delete("late")
    assert going is not None
    assert going.deleting
    served.plane.snapshots.taken.set()
    assert client.snapshots.delete("before", wait=True) is None


def test_a_fork_is_as_many_vms_as_names(client: Client) -> None:
    assert [vm.name for vm in client.vms.fork("web", ("a", "b"))] == ["a", "b"]


def test_stats_templates_and_pools(client: Client, served: Served) -> None:
    with pytest.raises(WrongState):
        client.vms.stats("web")
    served.plane.door.stats[client.vms.get("web").uid] = make_stats()
    assert client.vms.stats("web")["process_shared_bytes"] == 80_000_000

    built = client.templates.build("nginx", cpu_cores=2)
    assert isinstance(built, Template)
    assert (built.cpu_cores, client.templates.list()) == (2, [built])
    assert client.templates.prune() == [built]

    plugin = client.pools.set("nginx", 2, generation=1)
    assert plugin.wanted_pool == 2
    assert [pool["wanted"] for pool in client.pools.list()] == [2]
    with pytest.raises(PreconditionFailed):
        client.pools.set("nginx", None, generation=1)
