"""What one layer brought, so that its whiteouts hide only what lower layers have (image-spec v1.1, layer.md, "Whiteouts")."""

from __future__ import annotations

import contextlib

from volant.fledge.layers.budget import Budget
from volant.fledge.layers.tree import Tree, join_path, split_path


class Changes:
    """Where a whiteout stands among a layer's entries does not matter: what it hides is gone when it comes late, too."""

    def __init__(self, tree: Tree, budget: Budget) -> None:
        self._tree = tree
        self._budget = budget
        self._made: set[bytes] = set()
        self._above: set[bytes] = set()

    def add(self, path: bytes) -> None:
        """An entry of the layer made what lies at ``path``."""
        self._made.add(path)
        parent = split_path(path)[0]
        while parent not in self._above:
            self._above.add(parent)
            self._budget.charge_metadata(len(parent), path)
            parent = split_path(parent)[0]

    def hide(self, path: bytes) -> None:
        """The whiteout of ``path``: what lower layers have there is gone. Raises OSError."""
        if path in self._tree.times_ns:
            if path not in self._made:
                if path not in self._above:
                    self._tree.remove(path)
                    return
                self._tree.reset_directory(path)
            self.hide_content(path)
        elif path not in self._made:
            with contextlib.suppress(FileNotFoundError):
                self._tree.remove(path)

    def hide_content(self, path: bytes) -> None:
        """The opaque whiteout in the directory ``path``. Raises OSError."""
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            for name in self._tree.list_directory(directory):
                child = join_path(directory, name)
                kept = child in self._made
                if child in self._tree.times_ns and (kept or child in self._above):
                    if not kept:
                        self._tree.reset_directory(child)
                    waiting.append(child)
                elif not kept:
                    self._tree.remove(child)
