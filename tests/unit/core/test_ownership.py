"""Who decides which field, in pure functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.deployment import Deployment, DeploymentSpec
from volant.core.errors import FieldConflict, InvalidInput
from volant.core.field_paths import (
    MISSING,
    PathSet,
    find_shape,
    find_value,
    format_path,
    list_leaves,
    parse_path,
    put_value,
    same_value,
    spell_out,
)
from volant.core.ownership import (
    MAX_MANAGERS,
    MAX_PATHS,
    Managers,
    check_manager,
    decide_managers,
    note_edit,
    plan_apply,
)
from volant.core.resource import from_wire
from volant.core.vm import VMSpec

SHAPE = find_shape(DeploymentSpec)

keys = st.text(st.sampled_from('ab.["]\\ é/'), max_size=4)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("xy", max_size=2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@given(st.lists(keys, min_size=1, max_size=4).map(tuple))
def test_a_path_is_read_as_it_was_written(path: tuple[str, ...]) -> None:
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize("text", [".a", "a.", "a..b", "a[b]", 'a["b', "a[0]", 'a["b"]x', 'a.["b"]', 'a["plain"]'])
def test_what_is_no_path_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        parse_path(text)


def test_plain_and_odd_keys_are_written_as_people_read_them() -> None:
    assert format_path(("vm", "env", "MODE")) == "vm.env.MODE"
    assert format_path(("labels", "app.kubernetes.io/name")) == 'labels["app.kubernetes.io/name"]'


@given(documents)
def test_the_leaves_of_a_document_make_it_again(document: dict[str, Any]) -> None:
    made: dict[str, Any] = {}
    for path, value in list_leaves(document, keep_null=True):
        assert same_value(find_value(document, path), value)
        put_value(made, path, value)
    assert same_value(made, document)


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(tuple), max_size=4), st.data())
def test_a_set_of_paths_finds_what_a_walk_finds(paths: list[tuple[str, ...]], data: st.DataObject) -> None:
    asked = tuple(data.draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=3)))
    found = PathSet(paths)
    assert found.holds(asked) == any(asked[: len(path)] == path for path in paths)
    assert found.has_below(asked) == any(path[: len(asked)] == asked and path != asked for path in paths)


def test_only_what_may_be_absent_as_a_whole_is_optional() -> None:
    assert SHAPE.optional == {("autoscale",), ("vm", "limits")}
    assert SHAPE.required == {("vm",), ("vm", "plugin"), ("autoscale", "max")}


def fields(**spec: Any) -> dict[str, Any]:
    """A deployment as it is kept."""
    wanted = from_wire(Deployment, {"name": "web", "vm": {"plugin": "nginx"}, **spec})
    return {"labels": wanted.labels, **spell_out(wanted.spec)}


def apply(
    before: dict[str, Any] | None, managers: Managers, applied: dict[str, Any], manager: str = "volar", *, force: bool = False
) -> tuple[dict[str, Any], Managers]:
    """What becomes of a deployment, as the intent has it."""
    plan = plan_apply("Deployment", before, managers, manager, applied, SHAPE)
    wanted = from_wire(Deployment, {**plan.document, "name": "web"})
    after = {"labels": wanted.labels, **spell_out(wanted.spec)}
    return after, decide_managers(plan, before, after, managers, manager, force=force)


FILE = {"vm": {"plugin": "nginx", "env": {"MODE": "fast"}}, "replicas": 2, "labels": {"app": "x"}}


def test_who_makes_it_decides_what_stands_in_the_file() -> None:
    after, managers = apply(None, {}, FILE)
    assert after["replicas"] == 2
    assert after["vm"]["env"] == {"MODE": "fast"}
    assert managers == {"volar": ("labels.app", "replicas", "vm.env.MODE", "vm.plugin")}
    assert apply(after, managers, FILE) == (after, managers)


def test_null_is_as_if_it_was_not_written() -> None:
    after, managers = apply(None, {}, {**FILE, "autoscale": None, "budget": {"min_available": None}})
    assert managers["volar"] == ("labels.app", "replicas", "vm.env.MODE", "vm.plugin")
    assert after["autoscale"] is None


def test_what_is_no_longer_in_the_file_goes_back_to_its_default() -> None:
    first, managers = apply(None, {}, {**FILE, "strategy": {"type": "canary", "max_surge": 3}})
    after, managers = apply(first, managers, {"vm": {"plugin": "nginx"}, "strategy": {"max_surge": 3}})
    assert (after["replicas"], after["labels"], after["vm"]["env"]) == (1, {}, {})
    assert (after["strategy"]["type"], after["strategy"]["max_surge"]) == ("rolling", 3)
    assert managers == {"volar": ("strategy.max_surge", "vm.plugin")}


def test_a_record_that_may_be_absent_goes_with_its_last_field() -> None:
    first, managers = apply(None, {}, {**FILE, "autoscale": {"max": 5}})
    assert first["autoscale"]["min"] == 1
    after, _ = apply(first, managers, FILE)
    assert after["autoscale"] is None
    # Not while another decides something in it.
    both = {**managers, "other": ("autoscale.max", "autoscale.min")}
    after, left = apply(first, both, FILE)
    assert after["autoscale"]["max"] == 5
    assert left["other"] == ("autoscale.max", "autoscale.min")


def test_what_has_no_default_stays() -> None:
    first, managers = apply(None, {}, {**FILE, "autoscale": {"max": 5, "min": 2}})
    after, managers = apply(first, managers, {"replicas": 2, "autoscale": {"min": 2}})
    assert after["autoscale"]["max"] == 5
    assert after["vm"]["plugin"] == "nginx"
    assert managers == {"volar": ("autoscale.min", "replicas")}
    with pytest.raises(InvalidInput) as refused:
        apply(None, {}, {**FILE, "autoscale": {"min": 2}})
    assert refused.value.field == "autoscale"


def test_another_file_decides_its_own_fields() -> None:
    first, managers = apply(None, {}, FILE)
    after, managers = apply(first, managers, {"paused": True, "replicas": 2}, "ops")
    assert after["paused"] is True
    assert managers["ops"] == ("paused", "replicas")
    # replicas is decided by both now: it stays when one leaves it out.
    after, managers = apply(after, managers, {"paused": True}, "ops")
    assert after["replicas"] == 2
    assert managers["ops"] == ("paused",)


def test_to_decide_otherwise_is_a_conflict_that_force_ends() -> None:
    first, managers = apply(None, {}, FILE)
    with pytest.raises(FieldConflict, match=r"replicas is decided by volar \(2, not 5\)") as refused:
        apply(first, managers, {"replicas": 5}, "ops")
    assert refused.value.fields == (("replicas", "volar"),)
    after, managers = apply(first, managers, {"replicas": 5}, "ops", force=True)
    assert after["replicas"] == 5
    assert managers == {"ops": ("replicas",), "volar": ("labels.app", "vm.env.MODE", "vm.plugin")}


def test_lists_are_decided_whole() -> None:
    ports = [{"port": 80, "host_port": 8080}]
    first, managers = apply(None, {}, {**FILE, "ports": ports})
    assert "ports" in managers["volar"]
    with pytest.raises(FieldConflict):
        apply(first, managers, {"ports": [*ports, {"port": 81, "host_port": 8081}]}, "ops")
    # As it is kept, every port says its protocol; that is no other value.
    assert apply(first, managers, {"ports": ports}, "ops")[1]["ops"] == ("ports",)


def test_an_empty_map_decides_that_there_is_one() -> None:
    first, managers = apply(None, {}, {**FILE, "vm_labels": {}})
    assert "vm_labels" in managers["volar"]
    after, managers = apply(first, managers, {"vm_labels": {"tier": "web"}}, "ops")
    assert after["vm_labels"] == {"tier": "web"}
    after, managers = apply(after, managers, {**FILE, "vm_labels": {}})
    assert after["vm_labels"] == {"tier": "web"}


def test_who_edits_by_hand_takes_what_they_change() -> None:
    first, managers = apply(None, {}, FILE)
    scaled = fields(**{**FILE, "replicas": 5})
    managers = note_edit("Deployment", first, scaled, managers, "api")
    assert managers == {"api": ("replicas",), "volar": ("labels.app", "vm.env.MODE", "vm.plugin")}
    with pytest.raises(FieldConflict, match=r"replicas is decided by api \(5, not 2\)"):
        apply(scaled, managers, FILE)
    without = {key: value for key, value in FILE.items() if key != "replicas"}
    after, _ = apply(scaled, managers, without)
    assert after["replicas"] == 5


def test_an_edit_to_the_default_is_remembered_too() -> None:
    first, managers = apply(None, {}, {**FILE, "strategy": {"type": "canary"}})
    managers = note_edit("Deployment", first, fields(**FILE), managers, "api")
    assert managers["api"] == ("strategy.type",)
    assert "strategy.type" not in managers["volar"]


def test_what_is_taken_away_by_hand_is_nobodys() -> None:
    first, managers = apply(None, {}, FILE)
    edited = fields(**{**FILE, "vm": {"plugin": "nginx"}})
    managers = note_edit("Deployment", first, edited, managers, "api")
    assert managers == {"volar": ("labels.app", "replicas", "vm.plugin")}
    assert apply(edited, managers, FILE)[0]["vm"]["env"] == {"MODE": "fast"}


def test_a_record_that_is_put_away_by_hand_is_a_conflict() -> None:
    scaled = {**FILE, "autoscale": {"max": 5}}
    first, managers = apply(None, {}, scaled)
    edited = fields(**FILE)
    managers = note_edit("Deployment", first, edited, managers, "api")
    assert managers["api"] == ("autoscale",)
    with pytest.raises(FieldConflict, match="autoscale is decided by api"):
        apply(edited, managers, scaled)


def test_an_edit_that_changes_nothing_changes_no_manager() -> None:
    first, managers = apply(None, {}, FILE)
    assert note_edit("Deployment", first, first, managers, "api") is managers


def test_what_verbs_change_is_passed_over() -> None:
    after, managers = apply(None, {}, {**FILE, "target": 7, "promoted": 2})
    assert (after["target"], after["promoted"]) == (0, 0)
    assert "target" not in managers["volar"]
    plan = plan_apply("VM", None, {}, "volar", {"plugin": "nginx", "restart_token": 3, "snapshot": "before"})
    # A snapshot is where a VM begins, once.
    assert plan.document == {"plugin": "nginx", "snapshot": "before"}
    assert plan.mine == (("plugin",),)
    kept = spell_out(VMSpec(plugin="nginx"))
    assert plan_apply("VM", kept, {}, "volar", {"snapshot": "later"}).document == kept


def test_labels_of_volants_own_are_passed_over() -> None:
    plan = plan_apply("VM", None, {}, "volar", {"plugin": "nginx", "labels": {"volant.deployment": "web", "app": "x"}})
    assert plan.document["labels"] == {"app": "x"}


def test_paths_that_cannot_be_read_are_passed_over() -> None:
    first, managers = apply(None, {}, FILE)
    after, left = apply(first, {**managers, "newer": ("a..b",)}, {**FILE, "replicas": 3})
    assert after["replicas"] == 3
    assert left["newer"] == ("a..b",)


def test_there_is_an_end_to_fields_and_managers() -> None:
    with pytest.raises(InvalidInput, match="at most 2000"):
        plan_apply("VM", None, {}, "volar", {"env": {str(i): "" for i in range(MAX_PATHS + 1)}})
    first, _ = apply(None, {}, FILE)
    many = {f"m{i}": ("replicas",) for i in range(MAX_MANAGERS)}
    with pytest.raises(InvalidInput, match="managers"):
        apply(first, many, {"paused": True}, "one-more")
    assert apply(first, many, {"replicas": 2}, "m3")[1].keys() == many.keys()


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 64, "a\nb"])
def test_a_manager_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_manager(name)
    assert refused.value.field == "manager"


applied = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "paused": st.booleans(),
        "labels": st.dictionaries(st.sampled_from(["a", "b.c"]), st.sampled_from(["x", "y"]), max_size=2),
        "strategy": st.fixed_dictionaries(
            {}, optional={"type": st.sampled_from(["rolling", "recreate"]), "keep_old_s": st.just(5)}
        ),
        "autoscale": st.fixed_dictionaries({"max": st.integers(1, 3)}, optional={"min": st.integers(0, 1)}),
        "ports": st.lists(st.fixed_dictionaries({"port": st.just(80), "host_port": st.integers(1, 3)}), max_size=2),
    },
)


@given(st.lists(st.tuples(st.sampled_from(["volar", "ops", "ci"]), applied, st.booleans()), max_size=6))
def test_whatever_is_applied_in_whatever_order(steps: list[tuple[str, dict[str, Any], bool]]) -> None:
    current, managers = apply(None, {}, {"vm": {"plugin": "nginx"}}, "base")
    for manager, document, force in steps:
        before = (current, dict(managers))
        try:
            current, managers = apply(current, managers, document, manager, force=force)
        except FieldConflict as conflict:
            assert not force
            assert all(name != manager for _, name in conflict.fields)
            assert (current, dict(managers)) == before
            continue
        # What was applied is there, is this manager's, and applying it again changes nothing.
        for path, value in list_leaves(document):
            found = find_value(current, path)
            assert found is not MISSING
            assert same_value(found, value) or path == ("ports",) or value == {}
            assert format_path(path) in managers[manager]
        assert apply(current, managers, document, manager) == (current, managers)
    # When all leave everything out, all is as by default.
    for manager in [name for name in managers if name != "base"]:
        current, managers = apply(current, managers, {}, manager)
    assert current == fields()
