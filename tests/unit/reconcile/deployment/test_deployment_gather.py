"""A small deployment is looked at as soon as a replica changes; a large one in the making less often, and never much later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from volant.reconcile.deployment.controller import GATHER_MAX_S, choose_gather_s


def test_few_replicas_are_hardly_waited_for_and_many_at_rest_neither() -> None:
    assert choose_gather_s(3, 0) < 0.03
    assert choose_gather_s(3, 3) < 0.03
    assert choose_gather_s(1_000, 1) < 0.15
    assert choose_gather_s(1_000, 500) == GATHER_MAX_S


@given(size=st.integers(0, 100_000), unsettled=st.integers(0, 100_000))
def test_it_grows_with_both_and_has_an_end(size: int, unsettled: int) -> None:
    found = choose_gather_s(size, unsettled)
    assert 0 < found <= choose_gather_s(size + 1, unsettled) <= choose_gather_s(size + 1, unsettled + 1) <= GATHER_MAX_S
