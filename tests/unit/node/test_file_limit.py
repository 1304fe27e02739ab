"""As many files as thousands of guests need, wherever that is allowed."""

from __future__ import annotations

import resource

import pytest

from volant.node.host import raise_file_limit

Limits = tuple[int, int]


class Kernel:
    def __init__(self, limits: Limits, most: int) -> None:
        self.limits = limits
        self.most = most

    def get(self, _: int) -> Limits:
        return self.limits

    def set(self, _: int, limits: Limits) -> None:
        if limits[1] > self.most:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [
        ((1_024, 20_000), 1_048_576, (524_288, 524_288)),
        ((1_024, 20_000), 20_000, (20_000, 20_000)),
        ((1_024, 1_000_000), 1_048_576, (1_000_000, 1_000_000)),
    ],
)
def test_it_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch, before: Limits, most: int, after: Limits) -> None:
    kernel = Kernel(before, most)
    monkeypatch.setattr(resource, "getrlimit", kernel.get)
    monkeypatch.setattr(resource, "setrlimit", kernel.set)
    raise_file_limit(524_288)
    assert kernel.limits == after
