"""Where a sparse file has data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def find_data(descriptor: int) -> Iterator[tuple[int, int]]:
    """The runs of bytes, begin and end, that are not holes (lseek(2), SEEK_DATA), in order. Raises OSError."""
    at = 0
    while True:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, at
