"""What a guest that has ended left on its console about its end."""

from __future__ import annotations

import os
from pathlib import Path

from volant.core.errors import HostError
from volant.core.ids import Uid
from volant.guest.farewell import TAIL_BYTES, Farewell, find_farewell
from volant.node.unit import Places, read_documents


def read_farewell(places: Places, uid: Uid) -> Farewell | None:
    """How the guest of ``uid`` said that its workload ended; None when it did not, or not in this run.

    Raises:
        HostError: its console's log is there and cannot be read.
    """
    documents = read_documents(places.unit(uid))
    if not documents:
        return None
    path = places.console(uid)
    console = _read_end(path, TAIL_BYTES)
    if len(console) < TAIL_BYTES:
        # The log may have been rotated in between.
        console = _read_end(path.with_name(path.name + ".1"), TAIL_BYTES - len(console)) + console
    return find_farewell(console, documents)


def _read_end(path: Path, max_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, max_bytes, max(0, size - max_bytes))
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
