"""How a request is refused."""

from __future__ import annotations


class Refusal(Exception):
    def __init__(self, status: int, *words: str) -> None:
        super().__init__(": ".join(words))
        self.status = status
        self.words = list(words)
