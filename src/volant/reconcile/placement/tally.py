"""How many VMs of a selector each node has, kept from changes: what affinity and spread ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from volant.core.selector import Selector, parse_selector


class Placed(msgspec.Struct, frozen=True):
    """A VM that is on a node, as a tally sees it."""

    project: str
    node: str
    labels: Mapping[str, str]


class _Count(msgspec.Struct):
    selector: Selector
    by_node: dict[str, int]


MAX_SELECTORS = 4096
"""So many are kept counted; one more, and all are forgotten and counted anew as they are asked for."""


class Tally:
    """``list_placed`` gives all VMs; it is asked once for every selector that is new."""

    def __init__(self, list_placed: Callable[[], Iterable[Placed]]) -> None:
        self._list_placed = list_placed
        self._counts: dict[tuple[str, str], _Count] = {}
        self._by_label: dict[tuple[str, str, str], dict[str, _Count]] = {}
        """Selectors that need one certain label: a VM without it does not concern them."""
        self._others: dict[str, dict[str, _Count]] = {}

    def count(self, project: str, text: str) -> Mapping[str, int]:
        """By node, how many VMs of ``project`` the selector ``text`` chooses. Raises InvalidInput for one that cannot be read."""
        found = self._counts.get((project, text))
        if found is None:
            found = self._add(project, text)
        return found.by_node

    def chooses(self, project: str, text: str, labels: Mapping[str, str]) -> bool:
        """Whether a VM of ``project`` with ``labels`` is among those."""
        self.count(project, text)
        return self._counts[project, text].selector.matches(labels)

    def put(self, placed: Placed) -> None:
        self._change(placed, 1)

    def drop(self, placed: Placed) -> None:
        self._change(placed, -1)

    def _add(self, project: str, text: str) -> _Count:
        if len(self._counts) >= MAX_SELECTORS:
            self._counts.clear()
            self._by_label.clear()
            self._others.clear()
        count = _Count(parse_selector(text), {})
        for placed in self._list_placed():
            if placed.project == project and count.selector.matches(placed.labels):
                count.by_node[placed.node] = count.by_node.get(placed.node, 0) + 1
        self._counts[project, text] = count
        exact = next(iter(sorted(count.selector.exact.items())), None)
        if exact is None:
            self._others.setdefault(project, {})[text] = count
        else:
            self._by_label.setdefault((project, *exact), {})[text] = count
        return count

    def _change(self, placed: Placed, by: int) -> None:
        concerned = list(self._others.get(placed.project, {}).values())
        for key, value in placed.labels.items():
            concerned += self._by_label.get((placed.project, key, value), {}).values()
        for count in concerned:
            if count.selector.matches(placed.labels):
                left = count.by_node.get(placed.node, 0) + by
                if left:
                    count.by_node[placed.node] = left
                else:
                    count.by_node.pop(placed.node, None)
