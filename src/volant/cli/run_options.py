"""The options of ``volar run``, as Docker's users type them, in Volant's words."""

from __future__ import annotations

import math
import re
import socket
from pathlib import Path
from typing import Any

import click
import msgspec

from volant.cli.vm_create import read_pairs
from volant.core.errors import InvalidInput

ENV_FILE_MAX_BYTES = 256 * 1024
_SIZE = re.compile(r"(\d{1,12})([bkmgtBKMGT]?)i?[bB]?")
_UNITS = {"": 1.0, "b": 1 / 1048576, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1048576.0}
_PUBLISHED = re.compile(
    r"(?:(?P<address>[^/]*):)?(?P<host>\d*):(?P<guest>\d+)(?:/(?P<protocol>\w+))?|(?P<alone>\d+)(?:/(?P<its>\w+))?"
)
_RESTART = re.compile(r"(no|never|always|unless-stopped|on-failure)(?::(\d{1,6}))?")


class WorkloadChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the plugin's workload is to be instead; an empty one changes nothing."""

    command: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    stdin: bool = False
    max_restarts: int = 0

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """``document``, a manifest, with its workload so. A command of one's own listens nowhere and has no health to ask for."""
        workload = dict(document["workload"])
        changed = {**document, "workload": workload}
        for field in ("user", "workdir", "tty", "stdin"):
            if value := getattr(self, field):
                workload[field] = value
        if self.max_restarts:
            workload["restart"] = {**workload.get("restart", {}), "max_restarts": self.max_restarts}
        if self.command:
            workload |= {"type": "exec", "entrypoint": list(self.command)}
            workload.pop("base_url", None)
            for field in ("health_check", "probes"):
                changed.pop(field, None)
        return changed


class CommandAfter(click.Command):
    """Options may stand before and after the first argument; with the second one somebody else's command line begins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        begin = self._find_command(ctx, args)
        return super().parse_args(ctx, args if begin is None else [*args[:begin], "--", *args[begin:]])

    def _find_command(self, ctx: click.Context, args: list[str]) -> int | None:
        takes_value = {
            name: not parameter.is_flag and not parameter.count
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        at, arguments = 0, 0
        while at < len(args):
            word = args[at]
            if word == "--":
                return None
            if not word.startswith("-") or word == "-":
                arguments += 1
                if arguments == 2:
                    return at
            elif _wants_next(word, takes_value):
                at += 1
            at += 1
        return None


def _wants_next(word: str, takes_value: dict[str, bool]) -> bool:
    """Whether the value of this option is the next word."""
    if word.startswith("--"):
        return "=" not in word and takes_value.get(word, False)
    for number, letter in enumerate(word[1:], 2):
        if takes_value.get(f"-{letter}", False):
            return number == len(word)
    return False


def read_memory(text: str) -> int:
    """MiB of ``512m``, ``1g`` or ``512``. Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    mib = math.ceil(int(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if mib < 1:
        raise InvalidInput(f"{text[:40]!r} is no size of memory", field="--memory", hint="512m, 1g, or MiB as a number")
    return mib


def read_cpus(cores: float) -> dict[str, Any]:
    """``cpu_cores``, and for a part of a core the ``limits`` that hold the VM to it. Raises InvalidInput."""
    if not 0 < cores <= 64:
        raise InvalidInput(f"{cores:g} is no number of cores", field="--cpus", hint="for example 2 or 0.5")
    whole = math.ceil(cores)
    return {"cpu_cores": whole} | ({} if whole == cores else {"limits": {"cpu_percent": max(1, round(cores * 100))}})


def read_published(published: tuple[str, ...]) -> list[dict[str, int]]:
    """``8080:80`` leads port 8080 of the host to port 80; ``80`` leads a free one there, chosen here. Raises InvalidInput."""
    return [_read_port(text) for text in published]


def publish_all(document: dict[str, Any]) -> list[dict[str, int]]:
    """Every TCP port that the manifest ``document`` says is listened to, each on a free port of the host."""
    exposed = document.get("network", {}).get("expose", [])
    ports = sorted({each["port"] for each in exposed if each.get("protocol", "tcp") == "tcp"})
    return [{"port": port, "host_port": find_free_port()} for port in ports]


def read_environment(pairs: tuple[str, ...], files: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` pairs over what the files say; ``KEY`` alone takes this shell's own. Raises InvalidInput."""
    import os

    found: dict[str, str] = {}
    for file in files:
        found |= _read_environment_file(file)
    own = [f"{pair}={os.environ[pair]}" if "=" not in pair and pair in os.environ else pair for pair in pairs]
    return found | (read_pairs(tuple(own), "--env") if own else {})


def read_restart(text: str) -> tuple[str, int]:
    """The restart policy, and how many restarts in a row there may be (0: any number). Raises InvalidInput."""
    match = _RESTART.fullmatch(text)
    if match is None or (match[2] and match[1] != "on-failure"):
        raise InvalidInput(
            f"{text[:40]!r} is no restart policy", field="--restart", hint="no, always, on-failure or on-failure:5"
        )
    policy = {"no": "never", "unless-stopped": "always"}.get(match[1], match[1])
    return policy, int(match[2] or 0)


def find_free_port() -> int:
    """A TCP port that nobody had on the host a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("0.0.0.0", 0))  # nobody listens there: only its number is wanted
        return int(listener.getsockname()[1])


def _read_port(text: str) -> dict[str, int]:
    match = _PUBLISHED.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{text[:80]!r} publishes nothing", field="--publish", hint="8080:80, or 80 for a free port of the host"
        )
    if match["address"]:
        raise InvalidInput(
            f"{text[:80]!r} names an address of the host, and ports are published on all of them",
            field="--publish",
            hint="leave it out; for this machine alone: volar vms port-forward NAME 8080:80",
        )
    protocol = match["protocol"] or match["its"] or "tcp"
    if protocol != "tcp":
        raise InvalidInput(f"{protocol} is not published yet", field="--publish", hint="only tcp is")
    guest = int(match["guest"] or match["alone"])
    host = int(match["host"]) if match["host"] else find_free_port()
    if not (1 <= guest <= 65535 and 1 <= host <= 65535):
        raise InvalidInput(f"{text[:80]!r} is no pair of ports", field="--publish", hint="1 to 65535")
    return {"port": guest, "host_port": host}


def _read_environment_file(file: str) -> dict[str, str]:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", field="--env-file") from error
    if len(content) > ENV_FILE_MAX_BYTES:
        raise InvalidInput(f"{file} is larger than {ENV_FILE_MAX_BYTES} bytes", field="--env-file")
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or name != name.strip():
            raise InvalidInput(f"line {number} of {file} is not KEY=VALUE", field="--env-file")
        found[name] = value
    return found
