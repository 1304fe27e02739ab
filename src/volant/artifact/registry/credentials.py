"""Credentials as Docker, Podman and Skopeo keep them: containers-auth.json(5), Docker's config.json, credential helpers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from volant.artifact.registry.reference import DEFAULT_REGISTRY, ImageReference
from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.run import run

FILE_MAX_BYTES = 4 * 1024 * 1024
HELPER_TIMEOUT_S = 30.0

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDENTITY_USER = "<token>"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A name and password, or an identity token to get tokens with, or a token that is one already. Never shown by repr()."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r}, …)"

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` (RFC 7617), or nothing."""
        if not self.username and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True, rename={"identity_token": "identitytoken", "registry_token": "registrytoken"}):
    auth: str = ""
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


class _File(msgspec.Struct, frozen=True, rename={"helpers": "credHelpers", "store": "credsStore"}):
    auths: dict[str, _Entry] = {}
    helpers: dict[str, str] = {}
    store: str = ""


class _Secret(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


class CredentialStore:
    """Looks the files of ``environment`` through, the first that knows a credential wins. Nothing is kept between calls."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)

    async def find(self, reference: ImageReference) -> Credential | None:
        """The credential for ``reference``'s repository, or None.

        Raises:
            InvalidInput: a file is damaged. HostError: a credential helper fails.
        """
        for path in list_files(self._environment):
            file = await asyncio.to_thread(_read_file, path)
            if file is None:
                continue
            credential = await self._find_in(file, path, reference)
            if credential is not None:
                return credential
        return None

    async def _find_in(self, file: _File, path: Path, reference: ImageReference) -> Credential | None:
        host = reference.registry
        hosts = (_DOCKER_HUB_KEY, host) if host == DEFAULT_REGISTRY else (host,)
        helper = next((file.helpers[name] for name in (host, *hosts, "index.docker.io") if name in file.helpers), "")
        if helper:
            return await self._ask_helper(helper, hosts, path)
        for key, entry in _match_entries(file.auths, reference):
            credential = _read_entry(entry, key, path)
            if credential is not None:
                return credential
        return await self._ask_helper(file.store, hosts, path) if file.store else None

    async def _ask_helper(self, name: str, hosts: tuple[str, ...], path: Path) -> Credential | None:
        if not _HELPER_NAME.fullmatch(name):
            raise InvalidInput(f"{path}: {name[:80]!r} is not the name of a credential helper", field="credentials")
        program = f"docker-credential-{name}"
        for host in hosts:
            try:
                # Helpers reach the user's session, keyring and cloud by variables that only they know.
                done = await run(
                    [program, "get"], timeout_s=HELPER_TIMEOUT_S, stdin=host.encode(), env=self._environment, check=False
                )
            except CommandFailed as error:
                raise HostError(
                    f"the credential helper {program} of {path} does not work: {error}",
                    hint=f"install it, or take it out of {path}",
                ) from error
            if done.exit_status == 0:
                return _read_secret(done.stdout, program)
            if b"not found" not in done.stdout + done.stderr:
                said = _one_line((done.stdout + done.stderr).decode("utf-8", "replace"))
                raise HostError(
                    f"the credential helper {program} fails for {host}: {said}", hint=f"try: echo {host} | {program} get"
                )
        return None


def list_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """In the order of asking: containers' own file, then Docker's. ``REGISTRY_AUTH_FILE`` stands in for all the others."""
    if environment.get("REGISTRY_AUTH_FILE"):
        return (Path(environment["REGISTRY_AUTH_FILE"]),)
    home = Path(environment.get("HOME") or Path.home())
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (
        *((Path(runtime) / "containers/auth.json",) if runtime else ()),
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    )


def _match_entries(auths: Mapping[str, _Entry], reference: ImageReference) -> Iterator[tuple[str, _Entry]]:
    """The entries for the repository, then those for what it lies under, then those for the registry: closest first."""
    name = reference.name
    while "/" in name:
        if name in auths:
            yield name, auths[name]
        name = name.rpartition("/")[0]
    for key, entry in auths.items():
        bare = key.removeprefix("https://").removeprefix("http://")
        bare, _, rest = bare.partition("/")
        if rest.strip("/") not in ("", "v1", "v2"):
            continue
        if bare == reference.registry or (bare == "index.docker.io" and reference.registry == DEFAULT_REGISTRY):
            yield key, entry


def _read_file(path: Path) -> _File | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="credentials") from error
    if len(content) > FILE_MAX_BYTES:
        raise InvalidInput(f"{path} has more than {FILE_MAX_BYTES} bytes", field="credentials")
    if not content.strip():
        return None
    try:
        return msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is damaged: {error}", field="credentials", hint="log in again, or remove it") from error


def _read_entry(entry: _Entry, key: str, path: Path) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            decoded = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path}: the entry for {key} is damaged", field="credentials", hint="log in again") from error
        username, _, password = decoded.partition(":")
        password = password.strip("\x00")
    if not (password or entry.identity_token or entry.registry_token):
        return None
    return Credential(
        username=username, password=password, identity_token=entry.identity_token, registry_token=entry.registry_token
    )


def _read_secret(content: bytes, program: str) -> Credential | None:
    try:
        found = msgspec.json.decode(content, type=_Secret)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HostError(f"the credential helper {program} does not answer with JSON") from error
    if found.username == _IDENTITY_USER:
        return Credential(identity_token=found.secret)
    return Credential(username=found.username, password=found.secret) if found.secret else None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
