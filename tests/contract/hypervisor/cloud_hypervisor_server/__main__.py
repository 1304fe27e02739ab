"""What answers in Cloud Hypervisor's place in these tests. It is a program, a zip of this
directory and the API's description that ``program.py`` makes, and a driver starts it in its jail as it would the real one. So
it needs nothing but Python's own library.

It takes no request that the description does not know, keeps the state rules of Cloud Hypervisor 53 (vmm/src/lib.rs, vm.rs and
api/http of its repository say what they are), opens what it is told to open, and plays a guest: a console, a hybrid vsock with
the suite's own guest at port 1024, disks that it writes to, a balloon that gives. Words on the kernel's command line have it
misbehave: ``fake.boot=refuse|hang|die``, ``fake.pause=hang``, ``fake.info=garbage|huge|liar``.

A request line goes to stderr, as one JSON object, for tests to look at.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import stat
import sys
import threading

from server import serve_one
from vmm import VERSION, Vmm


def read_typed() -> None:
    """What is typed on the console comes back, as from a shell."""
    while True:
        select.select([0], [], [])
        try:
            typed = os.read(0, 4096)
        except BlockingIOError:
            continue
        except OSError:
            return
        if not typed:
            return
        os.write(1, b"typed " + typed + b"\r\n")


def main(words: list[str]) -> int:
    if words == ["--version"]:
        sys.stdout.write(f"cloud-hypervisor v{VERSION}\nMigration Protocol Versions: 1\n")
        return 0
    options = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) != 6 or set(options) != {"--api-socket", "--event-monitor", "--seccomp"} or options["--seccomp"] != "true":
        sys.stderr.write(f"error: unexpected arguments {words}\n")
        return 2
    numbers = [re.fullmatch(r"fd=(\d+)", options[name]) for name in ("--api-socket", "--event-monitor")]
    if None in numbers:
        sys.stderr.write("error: no descriptors\n")
        return 2
    api, events = (int(number[1]) for number in numbers)
    if not stat.S_ISSOCK(os.fstat(api).st_mode):
        sys.stderr.write("error: the API's descriptor is no socket\n")
        return 1
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    vmm = Vmm(events)
    vmm.tell("vmm", "starting")
    threading.Thread(target=read_typed, daemon=True).start()
    with socket.socket(fileno=api) as listener:
        while True:
            connection, _ = listener.accept()
            # One after the other, as the real one: whoever keeps a connection without a word is not to stop it, so a thread each.
            threading.Thread(target=serve_one, args=(vmm, connection), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
