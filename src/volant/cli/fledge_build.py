"""``fledge`` as a program of its own: builds what ``volar run`` was given as an image."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volant.cli.session import Ended
from volant.cli.signals import deferred_signals
from volant.core.errors import CommandFailed, HostError
from volant.run import spawn

END_S = 30.0
"""How long a build that was told to end may take to clean up."""


@contextlib.contextmanager
def build_image(source: str, *, quiet: bool) -> Iterator[Path]:
    """The directory of the plugin that ``fledge build`` makes of ``source``; gone afterwards. fledge itself says how it goes.

    Raises:
        Ended: the build failed, with its exit code, and has said why. HostError: fledge is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="volar-run-") as made:
        _build(source, Path(made), quiet)
        yield Path(made)


def _build(source: str, output: Path, quiet: bool) -> None:
    words: list[str | Path] = [_find_fledge(), "build", *(["--quiet"] if quiet else []), "--output", output, "--", source]
    process = None
    try:
        with deferred_signals():
            # From where the user stands, and with what they set for fledge and for registries.
            process = spawn(["env", "--chdir", Path.cwd(), *words], env=os.environ, stderr=sys.stderr.fileno())
        code = process.wait()
    except CommandFailed as error:
        raise HostError("the program env is not installed", hint="apt-get install coreutils") from error
    except BaseException:
        if process is not None:
            _end(process)
        raise
    if code == 127:
        raise HostError("fledge is not installed here", hint="install Volant, or build elsewhere and run the directory")
    if code:
        raise Ended(code if code > 0 else 128 - code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It has a session of its own, so that Ctrl-C did not reach it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_S)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _find_fledge() -> str:
    beside = Path(sys.executable).parent / "fledge"
    return str(beside) if beside.exists() else shutil.which("fledge") or "fledge"
