"""Label selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.selector import SELECTOR_MAX_CHARS, Operator, Requirement, Selector, parse_selector, select_labels

WEB = {"app": "web", "tier": "front", "note": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("gone!=x", True),
        ("gone=x", False),
        ("note=", True),
        ("app=", False),
        ("app", True),
        ("gone", False),
        ("!gone", True),
        ("! app", False),
        ("app in (web,db)", True),
        ("app in ( db , cache )", False),
        ("app in (web)", True),
        ("app in(web)", True),
        ("note in (,x)", True),
        ("app notin (db,cache)", True),
        ("app notin (web)", False),
        ("gone notin (web)", True),
        ("app=web,tier in (front),!gone,note", True),
        (" app=web , tier!=back ", True),
        ("app=web,tier=back", False),
        ("in in (x)", False),
        ("in", False),
        ("!in", True),
    ],
)
def test_matches_as_kubernetes_does(text: str, holds: bool) -> None:
    assert parse_selector(text).matches(WEB) is holds


@pytest.mark.parametrize(
    "text",
    ["=", "a=b,", ",a", "a,,b", "a in", "a in x", "a in ()", "a in (x", "a notin x)", "!a=b", "!", "a=(b)", "a b", "a=b c",
     "a===b", "a in (x y)", "a in (x))", "a" * (SELECTOR_MAX_CHARS + 1), ",".join(["a"] * 65)],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_selector(text, "selector")
    assert raised.value.field == "selector"


def test_a_value_may_hold_an_equals_sign_but_not_begin_with_one() -> None:
    assert parse_selector("from=oci://x?tag=1").matches({"from": "oci://x?tag=1"})


def test_what_an_index_can_answer_is_told_apart() -> None:
    selector = parse_selector("app=web,tier in (a,b),zone in (z),!old,app=db,x!=y")
    assert selector.exact == {"app": "web", "zone": "z"}


KEYS = st.from_regex(r"[a-z][a-z0-9./_-]{0,6}", fullmatch=True)
VALUES = st.from_regex(r"[a-z0-9._:/-]{0,4}", fullmatch=True)
OPERATORS: list[Operator] = ["in", "notin", "exists", "absent"]
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator: Operator = draw(st.sampled_from(OPERATORS))
    if operator in ("exists", "absent"):
        return Requirement(draw(KEYS), operator)
    return Requirement(draw(KEYS), operator, tuple(sorted(draw(st.sets(VALUES, min_size=1, max_size=3)))))


SELECTORS = st.builds(lambda found: Selector(tuple(found)), st.lists(requirements(), max_size=5))


@given(SELECTORS)
def test_what_is_written_reads_the_same(selector: Selector) -> None:
    assert parse_selector(str(selector)) == selector


@given(SELECTORS, LABELS)
def test_all_requirements_hold_and_exact_ones_are_necessary(selector: Selector, labels: dict[str, str]) -> None:
    matches = selector.matches(labels)
    assert matches == all(Selector((one,)).matches(labels) for one in selector.requirements)
    if matches:
        assert selector.exact.items() <= labels.items()


@given(requirements(), LABELS)
def test_each_operator_has_its_opposite(requirement: Requirement, labels: dict[str, str]) -> None:
    opposites: dict[Operator, Operator] = {"in": "notin", "notin": "in", "exists": "absent", "absent": "exists"}
    opposite = Requirement(requirement.key, opposites[requirement.operator], requirement.values)
    assert requirement.matches(labels) != opposite.matches(labels)


@given(LABELS)
def test_what_has_all_labels_is_selected_by_them(labels: dict[str, str]) -> None:
    selector = select_labels(labels)
    assert selector.matches({**labels, "more": "x"} if "more" not in labels else labels)
    assert selector.exact == labels


@given(st.text(alphabet="ab=!,() in\t", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selector = parse_selector(text)
    except InvalidInput:
        return
    assert parse_selector(str(selector)) == selector
