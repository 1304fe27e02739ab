from __future__ import annotations

from typing import Any

import pytest

from volant.core.claim import Claim
from volant.core.errors import InvalidInput
from volant.core.event import Event
from volant.core.ids import Uid
from volant.core.network import Network
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.resource import META_FIELDS, Meta, Resource, from_stored, from_wire, to_stored, to_wire
from volant.core.vm import VM, VMSpec, VMStatus

KINDS: list[type[Resource[Any, Any]]] = [VM, Plugin, Network, Node, Claim, Event]


@pytest.mark.parametrize("cls", KINDS)
def test_no_spec_field_takes_a_meta_name(cls: type[Resource[Any, Any]]) -> None:
    assert not META_FIELDS & set(cls.spec_type.__struct_fields__)


def make_vm() -> VM:
    meta = Meta(name="web", uid=Uid("0" * 32), labels={"tier": "front"}, created_at="2026-01-01T00:00:00.000000Z")
    return VM(meta=meta, spec=VMSpec(plugin="nginx", memory_mb=256), status=VMStatus(), revision=7)


def test_what_is_stored_is_read_back() -> None:
    vm = make_vm()
    assert from_stored(VM, to_stored(vm), 7) == vm


def test_the_wire_is_one_flat_object_with_status_apart() -> None:
    wire = to_wire(make_vm())
    assert (wire["kind"], wire["name"], wire["memory_mb"], wire["revision"]) == ("VM", "web", 256, "7")
    assert wire["status"]["phase"] == "Pending"
    assert "deleting_at" not in wire and "spec" not in wire and "meta" not in wire


def test_what_was_read_can_be_edited_and_sent_back() -> None:
    wire = to_wire(make_vm())
    wire["memory_mb"] = 512
    wanted = from_wire(VM, wire)
    assert (wanted.name, wanted.labels, wanted.spec.memory_mb) == ("web", {"tier": "front"}, 512)


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        ([], None),
        ({"name": "x"}, None),
        ({"plugin": "nginx"}, "name"),
        ({"kind": "Plugin", "name": "x", "plugin": "nginx"}, "kind"),
        ({"name": "x", "plugin": "nginx", "memory_mb": 1}, "memory_mb"),
        ({"name": "x", "plugin": "nginx", "memory_mb": "256"}, "memory_mb"),
        ({"name": "x", "plugin": "nginx", "power": "off"}, "power"),
        ({"name": "x", "plugin": "nginx", "surprise": 1}, None),
        ({"name": "x", "plugin": "nginx", "labels": {"a": 1}}, None),
    ],
)
def test_what_cannot_be_read_says_where(wire: object, field: str | None) -> None:
    with pytest.raises(InvalidInput) as raised:
        from_wire(VM, wire)
    if field is not None:
        assert raised.value.field == field
