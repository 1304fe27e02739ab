"""Networks that are asked for, and the cards that VMs get in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volant.core.errors import AlreadyExists, Exhausted, InUse, InvalidInput, NotFound, WrongState
from volant.core.network import NetworkSpec
from volant.core.resource import Wanted
from volant.core.vm import VMSpec
from volant.intent import Intents
from volant.intent.networks import LONGEST_BRIDGE, choose_bridge
from volant.store.contract import Delete
from volant.store.records import key_of

from .conftest import make_manifest
from .test_vms import want


def network(name: str, **spec: Any) -> Wanted[NetworkSpec]:
    return Wanted(name=name, labels={}, spec=NetworkSpec(**spec))


@pytest.fixture
async def installed(intents: Intents) -> Intents:
    await intents.plugins.install(make_manifest())
    return intents


async def test_a_network_gets_a_bridge_of_its_name(intents: Intents) -> None:
    made = await intents.networks.create(network("backend", subnet="10.20.0.0/24"))
    assert (made.spec.bridge, made.spec.dhcp) == ("vbr-backend", "volant")
    assert await intents.networks.get("backend") == made
    assert [each.name for each in (await intents.networks.list())[0]] == ["backend", "default"]


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63))
def test_a_bridge_can_have_the_name_that_is_chosen(name: str) -> None:
    assert len(choose_bridge(name)) <= LONGEST_BRIDGE and choose_bridge(name).startswith("vbr-")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (network("Big", subnet="10.20.0.0/24"), "name"),
        (network("a"), "subnet"),
        (network("a", subnet="8.8.8.0/24"), "subnet"),
        (network("a", subnet="10.20.0.0/31"), "subnet"),
        (network("a", subnet="10.9.0.0/16"), "subnet"),
        (network("a", subnet="10.20.0.0/24", bridge="vbr0"), "bridge"),
        (network("a", subnet="10.20.0.0/24", bridge="lo"), "bridge"),
        (network("a", subnet="10.20.0.0/24", bridge="vt-a"), "bridge"),
        (network("a", subnet="10.20.0.0/24", mtu=60), "mtu"),
        (network("a", dhcp="external"), "bridge"),
        (network("a", dhcp="external", bridge="br0", subnet="10.0.0.1/24"), "subnet"),
    ],
)
async def test_what_cannot_be_is_refused(intents: Intents, wanted: Wanted[NetworkSpec], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await intents.networks.create(wanted)
    assert caught.value.field == field
    assert len((await intents.networks.list())[0]) == 1


async def test_of_two_that_overlap_one_is_made(intents: Intents) -> None:
    wanted = [network("a", subnet="10.20.0.0/24"), network("b", subnet="10.20.0.0/16"), network("a", subnet="10.30.0.0/24")]
    made = await asyncio.gather(*(intents.networks.create(each) for each in wanted), return_exceptions=True)
    assert [type(each).__name__ for each in made] == ["Network", "InvalidInput", "AlreadyExists"]
    with pytest.raises(AlreadyExists):
        await intents.networks.create(network("default", subnet="10.40.0.0/24"))


async def test_one_that_vms_are_in_stays(installed: Intents) -> None:
    await installed.networks.create(network("backend", subnet="10.20.0.0/24"))
    await installed.vms.create(want(extra_networks=("backend",)))
    with pytest.raises(InUse, match="'web'"):
        await installed.networks.delete("backend")
    with pytest.raises(WrongState):
        await installed.networks.delete("default")
    with pytest.raises(NotFound):
        await installed.networks.delete("other")


async def test_no_vm_is_made_in_one_that_goes(installed: Intents) -> None:
    await installed.networks.create(network("backend", subnet="10.20.0.0/24"))
    assert (await installed.networks.delete("backend")).deleting
    with pytest.raises(InvalidInput, match="no network named"):
        await installed.vms.create(want(network="backend"))


async def test_a_card_in_each_network(installed: Intents) -> None:
    await installed.networks.create(network("backend", subnet="10.20.0.0/24"))
    await installed.networks.create(network("lan", dhcp="external", bridge="br9"))
    vm = await installed.vms.create(want(extra_networks=("backend", "backend", "lan")))
    assert [(card.network, card.ip, card.source) for card in vm.status.addresses] == [
        ("default", "10.9.0.2", "static"),
        ("backend", "10.20.0.2", "static"),
        ("backend", "10.20.0.3", "static"),
        ("lan", "", "external"),
    ]
    assert len({card.mac for card in vm.status.addresses}) == 4


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"network": "lan", "network_mode": "bridged"}, "network_mode"),
        ({"network_mode": "vsock", "extra_networks": ("default",)}, "extra_networks"),
        ({"extra_networks": ("default",) * 8}, "extra_networks"),
        ({"extra_networks": ("nowhere",)}, "extra_networks"),
        ({"network": "nowhere"}, "network"),
    ],
)
async def test_cards_that_cannot_be_are_refused(installed: Intents, spec: dict[str, Any], field: str) -> None:
    await installed.networks.create(network("lan", dhcp="external", bridge="br9"))
    with pytest.raises(InvalidInput) as caught:
        await installed.vms.create(want(**spec))
    assert caught.value.field == field


async def test_an_address_by_dhcp_is_chosen_as_any_other(installed: Intents) -> None:
    made = [await installed.vms.create(want(name, network_mode=mode)) for name, mode in (("a", "dhcp"), ("b", "bridged"))]
    assert [(vm.status.addresses[0].ip, vm.status.addresses[0].source) for vm in made] == [
        ("10.9.0.2", "dhcp"),
        ("10.9.0.3", "static"),
    ]


MODES = st.sampled_from(["bridged", "dhcp", "vsock"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(modes=st.lists(MODES, min_size=1, max_size=12))
async def test_however_many_ask_no_two_have_one_address(installed: Intents, modes: list[str]) -> None:
    """The network has room for five."""
    specs = [VMSpec(plugin="nginx", network_mode=mode) for mode in modes]  # type: ignore[arg-type]  # as JSON would say it
    wanted = [Wanted(name=f"vm-{number}", labels={}, spec=spec) for number, spec in enumerate(specs)]
    made = await asyncio.gather(*(installed.vms.create(each) for each in wanted), return_exceptions=True)
    cards = sum(mode != "vsock" for mode in modes)
    refused = [each for each in made if isinstance(each, BaseException)]
    assert len(refused) == max(0, cards - 5) and all(isinstance(each, Exhausted) for each in refused)
    vms, _ = await installed.vms.list()
    addresses = [card.ip for vm in vms for card in vm.status.addresses]
    assert len(addresses) == len(set(addresses)) == min(cards, 5)
    for vm in vms:
        await forget(installed, vm.name)


async def forget(intents: Intents, name: str) -> None:
    """Have a VM and its claims go at once, as its controller would."""
    store = intents.vms._store
    vm = await intents.vms.get(name)
    claims = [claim for claim in (await store.list("Claim")).items if claim.data["spec"]["owner_uid"] == vm.uid]
    await store.transact([Delete(key_of(vm)), *(Delete(claim.key) for claim in claims)])
