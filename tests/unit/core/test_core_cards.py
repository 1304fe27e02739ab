"""Cards and disks: what each is called, and what fits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.address import check_tap_name, mac_from_uid, tap_name
from volant.core.cards import MAX_CARDS, bare_cards, card_mac, card_networks, card_tap, is_reached_by_channel
from volant.core.disks import check_disks, check_places, check_plugin_devices, count_devices, extra_disks, own_artifacts
from volant.core.errors import InvalidInput
from volant.core.ids import Digest, Uid
from volant.core.manifest import Manifest, convert_manifest
from volant.core.resource import Meta
from volant.core.vm import VM, ExtraDisk, VMSpec, VMStatus

DIGEST = Digest("sha256:" + "ab" * 32)
UIDS = st.text("0123456789abcdef", min_size=32, max_size=32).map(Uid)


def manifest(**changes: Any) -> Manifest:
    medium = {"url": f"artifact:{DIGEST}", "checksum": DIGEST}
    return convert_manifest(
        {
            "schema_version": "v1",
            "name": "nginx",
            "version": "1.0",
            "workload": {"type": "exec", "entrypoint": ["/bin/true"]},
            "boot": {"kernel": medium, "initramfs": medium},
            "rootfs": medium,
        }
        | changes
    )


def disk(name: str = "data1", **changes: Any) -> dict[str, Any]:
    return {"name": name, "source": f"artifact:{DIGEST}", "checksum": DIGEST} | changes


@given(UIDS)
def test_every_card_has_names_of_its_own_that_stay(uid: Uid) -> None:
    taps = [card_tap(uid, index) for index in range(MAX_CARDS)]
    macs = [card_mac(uid, index) for index in range(MAX_CARDS)]
    assert len(set(taps)) == len(set(macs)) == MAX_CARDS
    assert all(check_tap_name(tap) == tap and len(tap) <= 15 for tap in taps)
    assert all(mac.startswith("02:") for mac in macs)
    assert (taps[0], macs[0]) == (tap_name(uid), mac_from_uid(uid)), "a VM with one card has what it always had"


def test_a_vm_without_a_card_is_in_no_network() -> None:
    spec = VMSpec(plugin="p", network_mode="vsock")
    assert card_networks(spec) == () and bare_cards(Uid("0" * 32), spec) == ()
    assert is_reached_by_channel(VM(meta=Meta(name="a", uid=Uid("0" * 32)), spec=spec, status=VMStatus()))


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=7))
def test_cards_are_in_the_order_of_their_networks(extra: list[str]) -> None:
    spec = VMSpec(plugin="p", extra_networks=tuple(extra))
    assert [card.network for card in bare_cards(Uid("1" * 32), spec)] == ["default", *extra]


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ([ExtraDisk(name="data", size_mb=1)], "there already"),
        ([ExtraDisk(name="x", size_mb=1), ExtraDisk(name="x", size_mb=2)], "there already"),
        ([ExtraDisk(name="of-the-plugin", size_mb=1)], "there already"),
        ([ExtraDisk(name="a/b", size_mb=1)], "cannot be the name"),
        ([ExtraDisk(name="x" * 21, size_mb=1)], "cannot be the name"),
        ([ExtraDisk(name="x")], "neither"),
        ([ExtraDisk(name="x", size_mb=1, readonly=True)], "empty"),
        ([ExtraDisk(name="x", artifact="md5:1")], "md5"),
    ],
)
def test_a_disk_that_cannot_be_is_refused(disks: list[ExtraDisk], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        check_disks(VMSpec(plugin="p", disks=tuple(disks)), manifest(disks=[disk("of-the-plugin")]))
    assert caught.value.field == "disks"


@pytest.mark.parametrize(
    "changes",
    [
        {"disks": [disk("rootfs")]},
        {"disks": [disk("a"), disk("a")]},
        {"disks": [disk("a b")]},
        {"disks": [disk("a", target="/")]},
        {"disks": [disk("a", target="/srv/../etc")]},
    ],
)
def test_a_plugin_whose_disks_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        check_plugin_devices(manifest(**changes))


def test_a_machine_has_as_many_places_as_its_hypervisor_gives_it() -> None:
    plugin = manifest(disks=[disk("a", readonly=True), disk("b")])
    spec = VMSpec(plugin="p", disks=(ExtraDisk(name="c", size_mb=1),))
    assert count_devices(spec, plugin) == 6  # the root and its layer, a card, three disks
    check_places(spec, plugin, "qemu")
    more = msgspec.structs.replace(spec, extra_networks=("default",))
    with pytest.raises(InvalidInput, match=r"7 disks and network cards.*places for 6"):
        check_places(more, plugin, "qemu")
    check_places(more, plugin, "cloud-hypervisor")
    check_places(msgspec.structs.replace(more, network_mode="vsock", extra_networks=()), plugin, "qemu")


def test_disks_are_the_plugins_and_then_its_own() -> None:
    plugin = manifest(disks=[disk("ro", readonly=True, target="/srv/data"), disk("rw", format="qcow2", target="data")])
    spec = VMSpec(plugin="p", disks=(ExtraDisk(name="own", artifact=DIGEST, size_mb=64),), kernel=DIGEST)
    found = {each.name: each for each in extra_disks(spec, plugin)}
    assert list(found) == ["ro", "rw", "own"]
    assert (found["ro"].target, found["rw"].target) == ("/srv/data", ""), "what is no path names no place in the guest"
    assert found["own"].origin == f"{DIGEST}:64" and found["rw"].origin == DIGEST
    assert own_artifacts(spec) == {DIGEST}
