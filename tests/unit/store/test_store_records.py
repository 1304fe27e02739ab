"""Resources written to the store and read back."""

from __future__ import annotations

from typing import ClassVar

import pytest

from volant.core.errors import AlreadyExists, HostError, NotFound, StaleRevision
from volant.core.ids import new_uid
from volant.core.resource import Meta, Resource, Spec, Status
from volant.store.contract import Create, Key
from volant.store.records import create_of, delete_of, find_resource, get_resource, key_of, list_resources, update_of
from volant.store.sqlite import SqliteStore


class BoatSpec(Spec):
    masts: int = 1


class BoatStatus(Status):
    afloat: bool = True


class Boat(Resource[BoatSpec, BoatStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "boat"
    plural: ClassVar[str] = "boats"
    spec_type: ClassVar[type[Spec]] = BoatSpec
    status_type: ClassVar[type[Status]] = BoatStatus


def boat(name: str, masts: int = 1, project: str = "default", **labels: str) -> Boat:
    meta = Meta(name=name, uid=new_uid(), project=project, labels=labels)
    return Boat(meta=meta, spec=BoatSpec(masts=masts), status=BoatStatus())


async def test_a_resource_comes_back_with_its_revision(store: SqliteStore) -> None:
    made = boat("argo", 2, "fleet", sea="black")
    revision = await store.transact([create_of(made)])
    found = await get_resource(store, Boat, "fleet", "argo")
    assert key_of(found) == Key("boat", "fleet", "argo")
    assert (found.meta, found.spec, found.status, found.revision) == (made.meta, made.spec, made.status, revision)


async def test_what_is_not_there_is_named(store: SqliteStore) -> None:
    assert await find_resource(store, Boat, "default", "argo") is None
    with pytest.raises(NotFound, match="there is no boat named argo in project default"):
        await get_resource(store, Boat, "default", "argo")


async def test_writes_are_conditional_on_what_was_read(store: SqliteStore) -> None:
    await store.transact([create_of(boat("argo"))])
    with pytest.raises(AlreadyExists):
        await store.transact([create_of(boat("argo"))])
    read = await get_resource(store, Boat, "default", "argo")
    await store.transact([update_of(read)])
    for stale in (update_of(read), delete_of(read)):
        with pytest.raises(StaleRevision):
            await store.transact([stale])
    await store.transact([delete_of(await get_resource(store, Boat, "default", "argo"))])
    assert await find_resource(store, Boat, "default", "argo") is None


async def test_resources_are_listed_with_the_revision_to_watch_from(store: SqliteStore) -> None:
    await store.transact([create_of(boat("b", sea="red")), create_of(boat("a")), create_of(boat("c", project="q", sea="red"))])
    everything, revision = await list_resources(store, Boat)
    assert ([found.name for found in everything], revision) == (["a", "b", "c"], 1)
    red, _ = await list_resources(store, Boat, "default", {"sea": "red"})
    assert [found.name for found in red] == ["b"]


@pytest.mark.parametrize("data", [{}, {"meta": {"name": "x"}, "spec": {}, "status": {}}])
async def test_a_record_that_cannot_be_read_is_named(store: SqliteStore, data: dict[str, object]) -> None:
    await store.transact([Create(Key("boat", "default", "argo"), data)])
    with pytest.raises(HostError, match="the record of boat/default/argo cannot be read"):
        await get_resource(store, Boat, "default", "argo")
