"""minisign's keys on disk, in the places and the formats that minisign has them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import minisign  # type: ignore[import-untyped]  # it publishes no type information
import msgspec

from volant.artifact.signature import KEY_MAX_BYTES, PublicKey, SecretKey, format_key_id, read_public_key
from volant.core.errors import AlreadyExists, HostError, InvalidInput, NotFound, TooLarge

PUBLIC_KEY = Path("minisign.pub")
PASSWORD_MAX_BYTES = 1024


class KeyCost(msgspec.Struct, frozen=True):
    """How hard a key's password is to guess, as libsodium counts it. The defaults are minisign's: some seconds and 1 GiB."""

    operations: int = 33_554_432
    memory_bytes: int = 1_073_741_824


def default_secret_key(environment: Mapping[str, str]) -> Path:
    """Where minisign keeps the secret key: ``~/.minisign/minisign.key``, or in ``MINISIGN_CONFIG_DIR``."""
    directory = environment.get("MINISIGN_CONFIG_DIR")
    return (Path(directory) if directory else Path("~/.minisign").expanduser()) / "minisign.key"


def create_keys(
    secret: Path, public: Path, password: str | None, *, replace: bool = False, cost: KeyCost | None = None
) -> PublicKey:
    """Write a new pair of keys. The secret one is its owner's to read alone; without a password it lies there in the clear.

    Raises:
        AlreadyExists: one of the files is there and may not be replaced. HostError: they cannot be written.
    """
    for path in (secret, public):
        if path.exists() and not replace:
            raise AlreadyExists(f"{path} is there already", hint="choose another place, or --force to lose that key for ever")
    pair = minisign.KeyPair.generate()
    with pair.secret_key as key:
        if password is not None:
            chosen = cost or KeyCost()
            try:
                key.encrypt(password, opslimit=chosen.operations, memlimit=chosen.memory_bytes)
            except MemoryError as error:
                raise HostError(f"a key's password takes {chosen.memory_bytes >> 20} MiB of memory to protect it") from error
        # minisign writes this comment over a key without a password, too.
        key.untrusted_comment = "minisign encrypted secret key"
        pair.public_key.untrusted_comment = f"minisign public key {format_key_id(pair.public_key)}"
        try:
            secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"{secret.parent} cannot be made: {error.strerror}") from error
        write_file(secret, bytes(key) + b"\n", mode=0o600)
    write_file(public, bytes(pair.public_key) + b"\n", mode=0o644)
    return pair.public_key


@contextlib.contextmanager
def open_secret_key(path: Path, ask_password: Callable[[], str]) -> Iterator[SecretKey]:
    """The key in the file ``path``, in memory for as long as the context lasts. ``ask_password`` is asked when it has one.

    Raises:
        NotFound: there is no such file. InvalidInput: it is no key, or the password is another.
    """
    content = read_small(path, KEY_MAX_BYTES, hint="fledge keygen makes a pair of keys; -s names another file")
    try:
        key = SecretKey.from_bytes(content)
    except minisign.Error as error:
        raise InvalidInput(f"{path} is no minisign secret key: {error}") from error
    with key:
        if key.is_encrypted():
            try:
                key.decrypt(ask_password())
            except minisign.Error as error:
                raise InvalidInput(f"{path} cannot be opened: {error}") from error
            except MemoryError as error:
                raise HostError(f"{path} takes more memory to open than there is", hint="it is 1 GiB for most keys") from error
        yield key


def open_public_key(path: Path) -> PublicKey:
    """The key in the file ``path``. Raises NotFound, or InvalidInput when it is none."""
    return read_public_key(read_small(path, KEY_MAX_BYTES, hint="give the signer's key: -p FILE or -P KEY"), str(path))


def read_password(path: Path) -> str:
    """The first line of a file. Raises NotFound, TooLarge, or InvalidInput when it is no text."""
    content = read_small(path, PASSWORD_MAX_BYTES, hint="it holds the password of the key, on one line")
    try:
        return content.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} holds no text") from error


def read_small(path: Path, limit_bytes: int, *, hint: str | None = None) -> bytes:
    """The content of a file of at most ``limit_bytes``. Raises NotFound, TooLarge, or HostError when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", hint=hint) from error
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limit_bytes:
        raise TooLarge(f"{path} is larger than it can be ({limit_bytes} bytes)")
    return content


def write_file(path: Path, content: bytes, *, mode: int) -> None:
    """Have ``path`` be a new file with ``content`` and ``mode``, whole or not at all. Raises HostError."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}") from error
