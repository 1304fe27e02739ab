"""What a simulated workload does by itself: a few programs that end, as their namesakes do. All others run for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

LEAST_S = 0.01
"""Even one that does nothing is started first."""


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """It prints this and ends with ``code`` after so many seconds."""

    after_s: float
    code: int
    stdout: str = ""
    stderr: str = ""


def foresee_end(argv: Sequence[str], programs: Mapping[str, tuple[bytes, bytes, int]]) -> Foreseen | None:
    """A name of ``programs`` prints what stands there; ``true``, ``false``, ``echo``, ``sleep`` and ``sh -c 'exit N'`` are
    themselves. None for one that runs until it is stopped."""
    name = argv[0].rpartition("/")[2]
    if name in programs:
        stdout, stderr, code = programs[name]
        return Foreseen(after_s=LEAST_S, code=code, stdout=stdout.decode(), stderr=stderr.decode())
    match name, *argv[1:]:
        case "true", *_:
            return Foreseen(after_s=LEAST_S, code=0)
        case "false", *_:
            return Foreseen(after_s=LEAST_S, code=1)
        case "echo", *words:
            return Foreseen(after_s=LEAST_S, code=0, stdout=" ".join(words))
        case "sleep", seconds:
            with contextlib.suppress(ValueError):
                return Foreseen(after_s=max(LEAST_S, float(seconds)), code=0)
        case "sh", "-c", script if script.split()[:1] == ["exit"]:
            number = script.split()[1:]
            return Foreseen(after_s=LEAST_S, code=int(number[0]) if number and number[0].isdecimal() else 0)
    return None


def describe_exit(how: Mapping[str, int]) -> str:
    """As kestrel says it."""
    return f"exited with code {how['code']}" if "code" in how else f"ended by signal {how.get('signal')}"
