"""Every field of a VM's spec is judged, and what a configuration is follows from that."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.changes import (
    CONFIGURATION,
    EFFECTS,
    OF_THE_RUN,
    check_changes,
    compare_configs,
    describe_config,
    find_changes,
)
from volant.core.errors import InvalidInput
from volant.core.vm import ExtraDisk, VMSpec

BASE = VMSpec(
    plugin="nginx", cpu_cores=1, memory_mb=128, disk_mb=1024, network_mode="bridged", disks=(ExtraDisk(name="d", size_mb=8),)
)


def test_every_field_of_the_spec_is_classified_and_no_other() -> None:
    assert set(EFFECTS) == set(VMSpec.__struct_fields__)


def test_what_steers_a_run_is_no_configuration() -> None:
    steering = {field for field, effect in EFFECTS.items() if effect == "steering"}
    assert steering == {"power", "snapshot", "snapshot_token", "restart_token", "force_stop"}
    assert not steering & set(CONFIGURATION)
    assert not steering & set(describe_config(BASE, {}))
    assert set(OF_THE_RUN) <= set(CONFIGURATION)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plugin": "other"}, "plugin"),
        ({"network": "other"}, "network"),
        ({"network_mode": "vsock"}, "network_mode"),
        ({"restart_token": 7}, "restart_token"),
        ({"snapshot": "s"}, "snapshot"),
        ({"snapshot_token": 1}, "snapshot_token"),
        ({"force_stop": True}, "force_stop"),
        ({"disk_mb": 512}, "disk_mb"),
        ({"disks": (ExtraDisk(name="d", size_mb=4),)}, "disks"),
        ({"disks": (ExtraDisk(name="d", size_mb=8, artifact="sha256:" + "0" * 64),)}, "disks"),
    ],
)
def test_what_cannot_change_is_refused_by_name(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_changes(BASE, msgspec.structs.replace(BASE, **change))
    assert refused.value.field == field
    assert field in ("disk_mb", "disks") or refused.value.hint


@pytest.mark.parametrize(
    "change", [{"memory_mb": 64}, {"env": {"A": "b"}}, {"disk_mb": 2048}, {"disks": (ExtraDisk(name="d", size_mb=9),)}]
)
def test_what_may_change_may(change: dict[str, object]) -> None:
    after = msgspec.structs.replace(BASE, **change)
    check_changes(BASE, after)
    assert find_changes(BASE, after) == tuple(change)


def test_a_comparison_names_each_variable_and_what_it_needs() -> None:
    after = msgspec.structs.replace(BASE, env={"A": "b"}, memory_mb=64)
    found = compare_configs(describe_config(BASE, {"x": "1"}), describe_config(after, {"x": "2"}))
    assert [(each.path, each.before, each.after, each.effect) for each in found] == [
        ("labels.x", "1", "2", "live"),
        ("memory_mb", 128, 64, "applied"),
        ("env.A", None, "b", "restart"),
    ]


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
)
def test_equal_configurations_do_not_differ_and_others_do(left: dict[str, str], right: dict[str, str]) -> None:
    differences = compare_configs(describe_config(BASE, left), describe_config(BASE, right))
    assert (left == right) == (not differences)
