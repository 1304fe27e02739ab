from __future__ import annotations

from typing import Any

import pytest

from volant.core.claim import Claim
from volant.core.errors import AlreadyExists, InvalidInput
from volant.core.ids import new_uid
from volant.core.manifest import Manifest, convert_manifest
from volant.core.published import port_claim_names
from volant.core.resource import Meta
from volant.core.vm import VM, PublishedPort, VMSpec, VMStatus
from volant.intent.ports import MAX_PORTS, choose_ports, describe_port_conflict, port_claims
from volant.store.contract import Store
from volant.store.records import create_of

from .conftest import make_manifest

NOW = "2026-01-01T00:00:00Z"


def manifest(*expose: dict[str, Any]) -> Manifest:
    return convert_manifest(make_manifest(network={"expose": list(expose)}))


def make_vm(name: str, *ports: PublishedPort, network: str = "default") -> VM:
    spec = VMSpec(plugin="nginx", ports=ports, network=network)
    return VM(meta=Meta(name=name, uid=new_uid()), spec=spec, status=VMStatus())


def test_what_the_manifest_exposes_on_the_host_is_published() -> None:
    exposed = manifest(
        {"port": 443, "host_port": 8443}, {"port": 80, "host_port": 8080}, {"port": 22}, {"port": 53, "protocol": "udp"}
    )
    assert choose_ports(VMSpec(plugin="nginx"), exposed) == (
        PublishedPort(port=80, host_port=8080),
        PublishedPort(port=443, host_port=8443),
    )


@pytest.mark.parametrize("ports", [(), (PublishedPort(port=81, host_port=81),)])
def test_what_is_asked_for_wins_even_when_it_is_nothing(ports: tuple[PublishedPort, ...]) -> None:
    assert choose_ports(VMSpec(plugin="nginx", ports=ports), manifest({"port": 80, "host_port": 8080})) == ports


def test_one_port_of_the_guest_may_have_two_of_the_host() -> None:
    ports = (PublishedPort(port=80, host_port=8080), PublishedPort(port=80, host_port=8081))
    assert choose_ports(VMSpec(plugin="nginx", ports=ports), manifest()) == ports


def test_a_port_of_the_host_is_published_once() -> None:
    ports = (PublishedPort(port=80, host_port=8080), PublishedPort(port=81, host_port=8080))
    with pytest.raises(InvalidInput, match="8080") as raised:
        choose_ports(VMSpec(plugin="nginx", ports=ports), manifest())
    assert raised.value.field == "ports"


def test_there_is_an_end_to_how_many_there_may_be() -> None:
    ports = tuple(PublishedPort(port=80, host_port=8000 + number) for number in range(MAX_PORTS + 1))
    assert len(choose_ports(VMSpec(plugin="nginx", ports=ports[1:]), manifest())) == MAX_PORTS
    with pytest.raises(InvalidInput, match=str(MAX_PORTS)) as raised:
        choose_ports(VMSpec(plugin="nginx", ports=ports), manifest())
    assert raised.value.field == "ports"


def test_udp_is_refused_rather_than_passed_over() -> None:
    exposed = manifest({"port": 53, "host_port": 53, "protocol": "udp"})
    with pytest.raises(InvalidInput, match="udp") as raised:
        choose_ports(VMSpec(plugin="nginx"), exposed)
    assert raised.value.field == "ports"
    assert choose_ports(VMSpec(plugin="nginx", ports=()), exposed) == ()


def test_each_port_is_claimed_for_its_vm() -> None:
    vm = make_vm("web", PublishedPort(port=80, host_port=8080), PublishedPort(port=443, host_port=8443))
    claims = port_claims(vm, NOW)
    assert [claim.name for claim in claims] == port_claim_names(vm) == ["port.default.tcp.8080", "port.default.tcp.8443"]
    assert {(claim.spec.thing, claim.spec.owner_uid, claim.meta.created_at) for claim in claims} == {("port", vm.uid, NOW)}
    unpublished = VM(meta=Meta(name="web", uid=new_uid()), spec=VMSpec(plugin="nginx"), status=VMStatus())
    assert port_claims(unpublished, NOW) == []


async def test_a_conflict_names_the_port_and_who_has_it(store: Store) -> None:
    first = make_vm("first", PublishedPort(port=80, host_port=8080))
    await store.transact([create_of(claim) for claim in port_claims(first, NOW)])
    second = make_vm("second", PublishedPort(port=80, host_port=8000), PublishedPort(port=80, host_port=8080))
    with pytest.raises(AlreadyExists):
        await store.transact([create_of(claim) for claim in port_claims(second, NOW)])
    assert len((await store.list(Claim.kind)).items) == 1
    conflict = await describe_port_conflict(store, second)
    assert isinstance(conflict, AlreadyExists)
    assert "8080" in str(conflict) and "'first'" in str(conflict)
    assert conflict.hint is not None and "first" in conflict.hint
    assert await describe_port_conflict(store, first) is None
    assert await describe_port_conflict(store, make_vm("third", PublishedPort(port=80, host_port=8081))) is None
