"""Contexts: the volantds that somebody works with, by name, in ``~/.config/volant/config.toml``.

What counts for the address: ``--api``, else ``--context``, else ``VOLANT_API``, else ``VOLANT_CONTEXT``, else the context in use,
else the client's own default.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from volant.core.errors import InvalidInput, NotFound

VARIABLE = "VOLANT_CONTEXT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FIELDS = ("address", "token_file")


class Context(NamedTuple):
    """``token_file`` holds what is sent as the bearer token; empty for a UNIX socket, which needs none."""

    name: str
    address: str
    token_file: str = ""


class Contexts(NamedTuple):
    """What the file says. ``current`` is empty when no context is in use."""

    contexts: tuple[Context, ...] = ()
    current: str = ""

    def find(self, name: str) -> Context:
        """Raises NotFound."""
        for context in self.contexts:
            if context.name == name:
                return context
        known = ", ".join(context.name for context in self.contexts)
        raise NotFound(
            f"there is no context named {name[:80]!r}", hint=f"those there are: {known}" if known else "volar context add"
        )


def config_file() -> Path:
    """``$XDG_CONFIG_HOME/volant/config.toml`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "volant" / "config.toml"


def read_contexts(path: Path) -> Contexts:
    """Nothing when there is no such file. Raises InvalidInput naming what is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    contexts = found.get("contexts", {})
    current = found.get("current", "")
    if not isinstance(contexts, dict) or not isinstance(current, str) or found.keys() - {"contexts", "current"}:
        raise InvalidInput(f"{path} holds something else than contexts", hint='current = "NAME" and tables [contexts.NAME]')
    return Contexts(tuple(_read_context(path, name, fields) for name, fields in contexts.items()), current)


def write_contexts(path: Path, contexts: Contexts) -> None:
    """Put ``contexts`` in the place of what the file says, for this user's eyes only."""
    import json

    lines = [f"current = {json.dumps(contexts.current)}\n"]
    for context in contexts.contexts:
        lines.append(f"\n[contexts.{json.dumps(context.name)}]\naddress = {json.dumps(context.address)}\n")
        if context.token_file:
            lines.append(f"token_file = {json.dumps(context.token_file)}\n")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def check_context_name(name: str) -> str:
    """Return ``name`` when it can name a context. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} cannot name a context", field="name", hint="letters, digits and . _ -, at most 63")
    return name


def choose_context(asked: str | None) -> Context | None:
    """The context that ``asked``, the environment or the file names; None for none. Raises NotFound, InvalidInput."""
    named = asked or os.environ.get(VARIABLE)
    found = read_contexts(config_file())
    name = named or found.current
    return found.find(name) if name else None


def _read_context(path: Path, name: str, fields: Any) -> Context:
    where = f"contexts.{name} in {path}"
    if not isinstance(fields, dict) or not isinstance(fields.get("address"), str):
        raise InvalidInput(f"{where} has no address", hint='address = "unix:///run/volant/volantd.sock"')
    unknown = sorted(fields.keys() - set(_FIELDS))
    if unknown or not all(isinstance(value, str) for value in fields.values()):
        raise InvalidInput(f"{where} holds something else than text in {' and '.join(_FIELDS)}")
    return Context(name, fields["address"], fields.get("token_file", ""))
