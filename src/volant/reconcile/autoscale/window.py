"""The wishes of the last while, so that a moment changes nothing."""

from __future__ import annotations

from collections import deque


class Window:
    """Settles what was recommended: raised only to what was asked for all of the last ``up_after_s``, lowered only to what was
    enough for all of the last ``down_after_s``.

    It begins with what there is, so that after a restart nothing is taken away before a whole window was seen. It holds no
    more entries than there are different wishes, however long it is.
    """

    def __init__(self) -> None:
        self._lowest: deque[tuple[float, int]] = deque()
        self._highest: deque[tuple[float, int]] = deque()
        self._seen_at: float | None = None

    def begin(self, now_s: float, current: int) -> None:
        """Forget what was, and take what there is now for what was asked until now."""
        self._lowest.clear()
        self._highest.clear()
        self._add(now_s, current)

    def settle(self, now_s: float, wish: int, current: int, *, up_after_s: float, down_after_s: float, gap_s: float) -> int:
        """How many there should be now. After more than ``gap_s`` without a look it begins anew."""
        if self._seen_at is None or now_s - self._seen_at > gap_s:
            self.begin(now_s, current)
        self._add(now_s, wish)
        # One that is just as old as the window is inside it no more.
        self._expire(self._lowest, now_s - up_after_s)
        self._expire(self._highest, now_s - down_after_s)
        return min(max(current, self._lowest[0][1]), self._highest[0][1])

    def _add(self, now_s: float, wish: int) -> None:
        self._seen_at = now_s
        # An earlier wish that asks for no less (for no more) will never be the lowest (the highest) again.
        while self._lowest and self._lowest[-1][1] >= wish:
            self._lowest.pop()
        self._lowest.append((now_s, wish))
        while self._highest and self._highest[-1][1] <= wish:
            self._highest.pop()
        self._highest.append((now_s, wish))

    @staticmethod
    def _expire(wishes: deque[tuple[float, int]], oldest_s: float) -> None:
        while len(wishes) > 1 and wishes[0][0] <= oldest_s:
            wishes.popleft()
