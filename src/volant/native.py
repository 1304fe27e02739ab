"""Where what is written in C is: kestrel, the guest's PID 1; the holder, each VM's parent; tsc, a stopwatch; settle, for mkfs."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Literal

from volant.core.errors import Unavailable

NativeName = Literal["kestrel", "holder", "tsc", "settle"]


def find_native(name: NativeName, *, architecture: str | None = None) -> Path:
    """The program's file: ``$VOLANT_<NAME>``, else the one in the wheel, else the one that ``make setup`` built in the checkout.

    Raises:
        Unavailable: it is in none of these places, or what the variable names is no file.
    """
    variable = f"VOLANT_{name.upper()}"
    override = os.environ.get(variable)
    if override:
        path = Path(override).absolute()
        if not path.is_file():
            raise Unavailable(f"{variable} names {override}, which is no file", hint=f"correct {variable} or unset it")
        return path
    package = Path(__file__).parent
    machine = architecture or platform.machine()
    for path in (package / "_native" / machine / name, package.parent.parent / "build" / "native" / machine / name):
        if path.is_file():
            return path
    raise Unavailable(f"{name} for {machine} is not built", hint=f"run `make setup`, or set {variable} to the program's path")
