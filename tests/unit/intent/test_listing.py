"""Pages: nothing twice, nothing left out, whatever comes and goes between them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.ids import new_uid
from volant.core.resource import Meta, to_stored
from volant.core.selector import parse_selector
from volant.core.vm import VM, VMSpec, VMStatus
from volant.intent.listing import Ask, Filters, Page, choose_page
from volant.intent.vm_list import VMS
from volant.store.contract import Stored
from volant.store.records import key_of


def make(name: str, *, labels: dict[str, str] | None = None, phase: Any = "Running", **spec: Any) -> Stored:
    meta = Meta(name=name, uid=new_uid(), labels=labels or {}, created_at=f"2026-01-01T00:00:{len(name):02}Z")
    vm = VM(meta=meta, spec=VMSpec(plugin="nginx", **spec), status=VMStatus(phase=phase))
    return Stored(key_of(vm), 1, to_stored(vm))


def page(records: list[Stored], **ask: Any) -> Page[VM]:
    return choose_page(VMS, sorted(records, key=lambda stored: stored.key), 7, Ask(**ask))


def walk(records: list[Stored], limit: int, **ask: Any) -> list[str]:
    names: list[str] = []
    cursor: str | None = None
    while True:
        found = page(records, limit=limit, cursor=cursor, **ask)
        assert found.total == page(records, **ask).total
        names += [vm.name for vm in found.items]
        if found.next is None:
            return names
        assert len(found.items) == limit
        cursor = found.next


@given(
    st.dictionaries(st.from_regex(r"[a-c]{1,4}", fullmatch=True), st.integers(32, 34) | st.none(), max_size=20),
    st.integers(1, 7),
    st.sampled_from(["name", "memory_mb", "phase", "created_at", "started_at"]),
    st.booleans(),
)
def test_the_pages_together_are_the_whole_list_in_order(
    memories: dict[str, int | None], limit: int, sort: str, descending: bool
) -> None:
    records = [make(name, memory_mb=memory) for name, memory in memories.items()]
    whole = [vm.name for vm in page(records, sort=sort, descending=descending).items]
    assert sorted(whole) == sorted(memories)
    assert walk(records, limit, sort=sort, descending=descending) == whole


@given(st.sets(st.integers(0, 40), min_size=4), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_what_comes_and_goes_between_pages_moves_nothing_else(had: set[int], gone: set[int], come: set[int]) -> None:
    name = "n{:02}".format
    records = {number: make(name(number)) for number in had}
    first = page(list(records.values()), limit=2)
    for number in gone:
        records.pop(number, None)
    for number in come:
        records.setdefault(number, make(name(number)))
    seen = [vm.name for vm in first.items]
    rest = page(list(records.values()), cursor=first.next) if first.next else None
    after = [vm.name for vm in rest.items] if rest else []
    assert len(set(seen + after)) == len(seen + after)
    assert {name(number) for number in had - gone} <= set(seen + after)


def test_filters_narrow_and_are_counted() -> None:
    records = [
        make("a", labels={"tier": "web"}),
        make("b", labels={"tier": "db"}, phase="Stopped"),
        make("web-1", phase="Failed", power="stopped"),
        make("parked.1", power="parked"),
    ]
    assert page(records).total == 3, "a pool's clones are nobody's"
    assert [vm.name for vm in page(records, filters=Filters(selector=parse_selector("tier!=db"))).items] == ["a", "web-1"]
    assert [vm.name for vm in page(records, filters=Filters(equals={"phase": ("stopped", "failed")})).items] == ["b", "web-1"]
    assert [vm.name for vm in page(records, filters=Filters(text="WEB")).items] == ["a", "web-1"]
    assert page(records, filters=Filters(equals={"plugin": ("other",)})).items == ()


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "a" * 2000, "bnVsbA", "WzEsMl0", "\u00e9"])
def test_a_cursor_that_was_not_given_here_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        page([make("a"), make("b")], limit=1, cursor=cursor)
    assert refused.value.field == "cursor"


def test_a_cursor_of_another_question_is_refused() -> None:
    records = [make(name) for name in "abc"]
    cursor = page(records, limit=1).next
    for other in ({"sort": "phase"}, {"descending": True}, {"filters": Filters(text="a")}):
        with pytest.raises(InvalidInput, match="another question"):
            page(records, cursor=cursor, **other)


def test_an_order_that_the_kind_has_not_is_refused() -> None:
    with pytest.raises(InvalidInput):
        page([], sort="secret")


def test_only_what_is_shown_is_decoded() -> None:
    broken = Stored(make("z").key, 1, {**make("z").data, "status": {"phase": "Running", "addresses": [], "ready": 7}})
    assert [vm.name for vm in page([make("a"), broken], limit=1).items] == ["a"]
