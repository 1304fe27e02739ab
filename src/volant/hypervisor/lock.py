"""A unit's lock: held from launch on by the holder, so that whoever can take it knows that nothing runs there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from volant.core.errors import WrongState

NAME = "lock"


def take_lock(state: Path) -> int:
    """A descriptor that holds the unit's lock for as long as it, or a copy of it, is open.

    Raises:
        WrongState: something runs there.
    """
    descriptor = os.open(state / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise WrongState("something runs there already", hint="stop it first") from error
    return descriptor


def is_locked(state: Path) -> bool:
    try:
        descriptor = os.open(state / NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask do not mistake each other for a VM.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
