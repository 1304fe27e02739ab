"""Every random number of the process from one seed, while a simulation runs."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator


@contextlib.contextmanager
def seeded(source: random.Random) -> Iterator[None]:
    """Have ``os.urandom`` (so ``secrets`` and ``uuid4``) and every ``random.Random()`` made without a seed follow ``source``."""

    class Seeded(random.Random):
        def __init__(self, seed: object = None) -> None:
            super().__init__(source.getrandbits(64) if seed is None else seed)  # type: ignore[arg-type]  # what Random takes

    kept = os.urandom, random._urandom, random.Random  # type: ignore[attr-defined]  # what SystemRandom reads
    os.urandom = random._urandom = source.randbytes  # type: ignore[assignment,attr-defined]  # positional only there
    random.Random = Seeded  # type: ignore[misc]  # for as long as the block lasts
    try:
        yield
    finally:
        os.urandom, random._urandom, random.Random = kept  # type: ignore[misc,attr-defined]  # as above
