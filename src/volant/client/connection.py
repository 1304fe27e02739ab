"""HTTP to volantd, over its UNIX socket or TCP."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from volant.client.address import DEFAULT, VARIABLE, Address, read_address, read_token
from volant.client.problem import raise_problem
from volant.core.errors import Forbidden, InProgress, TimedOut, Unavailable, VolantError

ANSWER_S = 30.0
"""How long an answer may take that is not a wait."""

RETRY_S = 5.0
"""For how long it is asked again what a volantd did not answer that was there: it may be coming back."""

RECONNECT_S = 60.0
"""The same for a stream of events."""

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Before the first time it is asked again, and so on; then as long as the last."""

REPEATABLE = frozenset({"GET", "HEAD", "POST"})
"""What may be asked twice: a POST is done once under its Idempotency-Key."""

KEY = "Idempotency-Key"

_ADDRESS_BYTES = 108

Query = Mapping[str, str | int | bool | None]


class ConnectionLost(Unavailable):
    """It was there, and went without an answer."""


class _HTTP(http.client.HTTPConnection):
    def __init__(self, address: Address, timeout_s: float | None) -> None:
        super().__init__(address.host or "localhost", address.port or None, timeout=timeout_s)
        self._address = address

    def connect(self) -> None:
        self.sock = self.opened = open_socket(self._address, self.timeout)


def open_socket(address: Address, timeout_s: float | None) -> socket.socket:
    """A connected socket. Raises Unavailable or Forbidden, saying what to do."""
    return _open_unix(address.path, timeout_s) if address.path else _open_tcp(address, timeout_s)


def _open_tcp(address: Address, timeout_s: float | None) -> socket.socket:
    try:
        connection = socket.create_connection((address.host, address.port), timeout_s)
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(
            f"no volantd answers at {address} ({why.lower()})", hint="does volantd run there with --listen-tcp?"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _open_unix(path: str, timeout_s: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        with _short_path(path) as short:
            connection.connect(short)
    except PermissionError as error:
        connection.close()
        raise Forbidden(f"this user may not connect to {path}", hint="use root, or join the group volant") from error
    except OSError as error:
        connection.close()
        why = error.strerror or str(error)
        raise Unavailable(
            f"no volantd answers at {path} ({why.lower()})",
            hint=f"is volantd running? start it, or say where it answers: {VARIABLE}=unix:///path",
        ) from error
    return connection


@contextlib.contextmanager
def _short_path(path: str) -> Iterator[str]:
    """``path``, or another way to it when it is longer than a socket's address holds (unix(7))."""
    if len(os.fsencode(path)) < _ADDRESS_BYTES:
        yield path
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120  # pathlib starts slower
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"  # noqa: PTH119  # likewise
    finally:
        os.close(directory)


class Answer:
    """An answer whose head was read and was no error."""

    def __init__(self, response: http.client.HTTPResponse, content: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.content = content

    def json(self) -> Any:
        return msgspec.json.decode(self.content) if self.content else None


class Stream:
    """An answer that is read as it comes, within a deadline for the whole of it."""

    def __init__(self, response: http.client.HTTPResponse, opened: socket.socket, deadline: float | None) -> None:
        self._response = response
        self._opened = opened
        self._deadline = deadline

    def read_line(self, limit: int) -> bytes:
        """Empty at the end. Raises TimedOut."""
        with self._within_deadline():
            return self._response.readline(limit)

    def read_some(self, limit: int) -> bytes:
        """What has come, at least a byte; empty at the end. Raises TimedOut."""
        with self._within_deadline():
            return self._response.read1(limit)

    @contextlib.contextmanager
    def _within_deadline(self) -> Iterator[None]:
        if self._deadline is None:
            yield
            return
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._opened.settimeout(left)
            yield
        except TimeoutError as error:
            raise TimedOut("what was waited for did not come in time") from error


class Connection:
    """Every call opens a socket of its own, so that one Connection may serve threads."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token_file: str | None = None,
        retry_s: float = RETRY_S,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        """``token_file`` holds what vouches for this client over TCP; without it ``$VOLANT_TOKEN`` or ``$VOLANT_TOKEN_FILE``.
        For how long a volantd that went away is asked again: ``retry_s`` for an answer, ``reconnect_s`` for a stream of events.

        Raises:
            InvalidInput: ``address`` is none, or the file cannot be read.
        """
        self.address = read_address(address or os.environ.get(VARIABLE) or DEFAULT)
        self.retry_s = retry_s
        self.reconnect_s = reconnect_s
        self.credentials: dict[str, str] = {}
        if self.address.host and (token := read_token(token_file)):
            self.credentials["Authorization"] = f"Bearer {token}"

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """Ask and read the whole answer. When the connection is lost before there is one, ask again; a POST carries a key
        under which volantd does it once.

        Raises:
            VolantError: the subclass that the answer names, Unavailable when there is none.
        """
        sent = name_request(method, headers)
        patience = Patience(self.retry_s)
        while True:
            try:
                with self._open(method, path, query, document, sent, timeout_s) as (response, _), _told_as_unavailable():
                    return Answer(response, response.read())
            except (Unavailable, InProgress) as error:
                self.pause(patience.after(error, method))

    def pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def get_json(self, path: str, query: Query | None = None) -> Any:
        return self.request("GET", path, query=query).json()

    def upload(self, path: str, chunks: Iterable[bytes], size_bytes: int, *, timeout_s: float = ANSWER_S) -> Answer:
        """PUT ``size_bytes`` of content; ``timeout_s`` is between two chunks, and for the answer."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        with self._open("PUT", path, None, None, headers, timeout_s, chunks) as (response, _), _told_as_unavailable():
            return Answer(response, response.read())

    def send_archive(
        self, path: str, chunks: Iterable[bytes], *, query: Query | None = None, timeout_s: float = ANSWER_S
    ) -> Answer:
        """PUT a tar archive of unknown size; ``timeout_s`` is between two chunks, and for the answer."""
        headers = {"Content-Type": "application/x-tar"}
        with self._open("PUT", path, query, None, headers, timeout_s, chunks) as (response, _), _told_as_unavailable():
            return Answer(response, response.read())

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        document: object = None,
        timeout_s: float | None = None,
        silence_s: float | None = None,
    ) -> Iterator[Stream]:
        """Ask for an answer that is read as it comes.

        Raises:
            TimedOut: its end has not come after ``timeout_s`` seconds. Unavailable: nothing has come for ``silence_s``, which is
            for answers that show a sign of life.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        limit_s = silence_s if timeout_s is None else timeout_s
        with self._open(method, path, query, document, headers, limit_s) as (response, opened), _told_as_unavailable():
            yield Stream(response, opened, deadline)

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for ``target``, which is encoded already, and give whatever is answered, errors too, to be read as it comes.

        Raises:
            Unavailable: there is no answer; ``timeout_s`` is how long it may be silent.
        """
        connection = _HTTP(self.address, timeout_s)
        try:
            with _told_as_unavailable():
                try:
                    connection.request(method, target, body=content, headers={**headers, **self.credentials})
                except (BrokenPipeError, ConnectionResetError):
                    if connection.sock is None:
                        raise  # else an answer may have come before all was sent
                response = connection.getresponse()
            yield response
        finally:
            connection.close()

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Query | None,
        document: object,
        headers: Mapping[str, str] | None,
        timeout_s: float | None,
        chunks: Iterable[bytes] | None = None,
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        connection = _HTTP(self.address, timeout_s)
        body: Any = chunks
        sent = {"Accept": "application/json", **self.credentials, **(headers or {})}
        if document is not None:
            body = msgspec.json.encode(document)
            sent.setdefault("Content-Type", "application/json")
        try:
            with _told_as_unavailable():
                try:
                    connection.request(method, quote(path) + format_query(query), body=body, headers=sent)
                except (BrokenPipeError, ConnectionResetError):
                    if connection.sock is None:
                        raise  # else an answer may have come before all was sent: it says why
                response = connection.getresponse()
                if response.status >= 400:
                    raise_problem(response.status, response.read())
            yield response, connection.opened
        finally:
            connection.close()


class Patience:
    """Decides whether and when something is asked again."""

    def __init__(self, limit_s: float, *, begun: bool = False) -> None:
        """``begun``: there was an answer, so that whatever ends it may pass."""
        self._limit_s = limit_s
        self._begun = begun
        self._lost_at: float | None = None
        self._pauses = iter(PAUSES_S)

    def after(self, error: VolantError, method: str = "GET") -> float:
        """Seconds to wait. Raises ``error`` when it is final: nothing was lost before, or that is too long ago."""
        now = time.monotonic()
        if self._lost_at is None:
            if method not in REPEATABLE or not (isinstance(error, ConnectionLost) or (self._begun and is_passing(error))):
                raise error
            self._lost_at = now
        if now - self._lost_at > self._limit_s or not is_passing(error):
            raise error
        return next(self._pauses, PAUSES_S[-1])


def is_passing(error: VolantError) -> bool:
    """Whether it may be otherwise in a moment: volantd is away, or still does what was asked for."""
    return type(error) in (Unavailable, ConnectionLost, InProgress)


def name_request(method: str, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers, with an Idempotency-Key for a POST that has none."""
    given = dict(headers or {})
    return {KEY: os.urandom(16).hex(), **given} if method == "POST" else given


@contextlib.contextmanager
def _told_as_unavailable() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("volantd did not answer in time", hint="look at its log; is the machine very busy?") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionLost(
            f"volantd ended the connection ({type(error).__name__})", hint="did it stop? ask again when it is back"
        ) from error


def format_query(query: Query | None) -> str:
    """``?a=b`` of what is not None; empty when nothing is left."""
    given = {name: _format(value) for name, value in (query or {}).items() if value is not None}
    return "?" + urlencode(given) if given else ""


def _format(value: str | int | bool | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
