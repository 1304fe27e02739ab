"""The examples of RFC 7396 (appendix A) and RFC 6902 (appendix A), and what no patch may do."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput, VolantError, WrongState
from volant.core.patch import OPERATIONS_MAX, json_patch, merge_patch

MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "result"), MERGES)
def test_merge_patch_does_what_the_rfc_shows(document: Any, patch: Any, result: Any) -> None:
    assert merge_patch(document, patch) == result


PATCHES: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "qux"}], {"baz": "qux"}),
    ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
    ({"foo": "bar"}, [{"op": "add", "path": "", "value": 1}], 1),
]  # fmt: skip


@pytest.mark.parametrize(("document", "operations", "result"), PATCHES)
def test_json_patch_does_what_the_rfc_shows(document: Any, operations: list[dict[str, Any]], result: Any) -> None:
    assert json_patch(document, operations) == result


@pytest.mark.parametrize(
    "operations",
    [
        {},
        "x",
        [{}],
        ["x"],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a/b/c", "value": 1}],
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "replace", "path": "/list/2", "value": 1}],
        [{"op": "replace", "path": "/list/01", "value": 1}],
        [{"op": "replace", "path": "/list/-1", "value": 1}],
        [{"op": "replace", "path": "/list/9999999", "value": 1}],
        [{"op": "add", "path": "/text/x", "value": 1}],
        [{"op": "move", "from": "/map", "path": "/map/inside"}],
        [{"op": "explode", "path": "/map"}],
        [{"op": "test", "path": "/text", "value": "t"}] * (OPERATIONS_MAX + 1),
    ],
)
def test_a_patch_that_cannot_be_changes_nothing(operations: Any) -> None:
    document = {"list": [1, 2], "text": "t", "map": {"a": 1}}
    before = {"list": [1, 2], "text": "t", "map": {"a": 1}}
    with pytest.raises(InvalidInput):
        json_patch(document, operations)
    assert document == before


def test_a_test_that_does_not_hold_stops_all_of_it() -> None:
    document = {"a": 1}
    with pytest.raises(WrongState):
        json_patch(document, [{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": True}])
    assert document == {"a": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={"path": st.text("/a01-~", max_size=6), "from": st.text("/a01-~", max_size=6), "value": JSON},
)


@given(JSON, st.lists(OPERATION, max_size=4))
def test_whatever_is_sent_is_applied_or_refused(document: Any, operations: list[Any]) -> None:
    with contextlib.suppress(VolantError):
        json_patch(document, operations)


@given(JSON, JSON)
def test_a_merge_patch_that_was_applied_changes_nothing_more(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once
