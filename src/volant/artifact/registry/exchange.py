"""What is asked of registries and what they answer: leave, redirects, retries, and errors in words (distribution-spec v1.1)."""

from __future__ import annotations

import asyncio
import random as system_random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager

import httpx2
import msgspec

from volant.artifact.registry.authority import TOKEN_MAX_BYTES, Authority, name_scope
from volant.artifact.registry.connection import Connections, Content, explain_failure, find_cause
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.destination import Destinations, Lookup, Reach, lookup_host
from volant.artifact.registry.patience import Interrupted, Patience, read_retry_after
from volant.artifact.registry.settings import Endpoint, RegistrySettings
from volant.core.clock import Clock, HostClock
from volant.core.errors import Forbidden, HostError, NotFound, TooLarge, VolantError

MAX_REDIRECTS = 3
ERROR_MAX_BYTES = 16 * 1024

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PORTS = {"http": 80, "https": 443}


class Answer(msgspec.Struct, frozen=True):
    """``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Fault(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Faults(msgspec.Struct, frozen=True):
    errors: tuple[_Fault, ...] = ()


class Exchange:
    """Talks to any number of registries; everything that is remembered (tokens, schemes) lives as long as this does."""

    def __init__(
        self, settings: RegistrySettings, credentials: CredentialStore, *, clock: Clock | None = None,
        random: Callable[[], float] = system_random.random, lookup: Lookup = lookup_host,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.clock = clock or HostClock()
        self._random = random
        self._connections = Connections(settings, transport)
        self._destinations = Destinations(lookup)
        self._authority = Authority(credentials, self._send_to_realm, self.clock)
        self._schemes: dict[str, str] = {}
        self._probing = asyncio.Lock()
        self._reaches: dict[str, Reach] = {}

    async def close(self) -> None:
        await self._connections.close()

    def patience(self) -> Patience:
        return Patience(self.settings.attempts, self.clock, self._random)

    async def find_url(self, endpoint: Endpoint, path: str) -> httpx2.URL:
        """``path`` below the repository. Raises Interrupted when the host has to be asked for its scheme and does not answer."""
        return httpx2.URL(f"{await self._find_scheme(endpoint)}://{endpoint.host}/v2/{endpoint.repository}{path}")

    async def ask(
        self, endpoint: Endpoint, method: str, path: str, *, max_bytes: int = 0, actions: str = "pull",
        headers: Mapping[str, str] | None = None, content: bytes | None = None, expect: frozenset[int] = frozenset({200}),
        more_scopes: str = "",
    ) -> Answer:  # fmt: skip
        """Ask for something small and read it whole, again while that may help.

        Raises:
            TooLarge: the answer has more than ``max_bytes``. Interrupted: it went wrong too often. Others: as ``open``.
        """
        patience = self.patience()
        while True:
            try:
                async with asyncio.timeout(self.settings.document_timeout_s):
                    url = await self.find_url(endpoint, path)
                    async with self.open(
                        endpoint, method, url, actions=actions, headers=headers, content=content, expect=expect,
                        more_scopes=more_scopes,
                    ) as response:  # fmt: skip
                        body = await read_bounded(response, max_bytes, f"{endpoint}{path}")
                        return Answer(response.status_code, dict(response.headers), body)
            except TimeoutError:
                await patience.wait(
                    Interrupted(f"{endpoint.host} took more than {self.settings.document_timeout_s:g} s to answer")
                )
            except Interrupted as error:
                await patience.wait(error)

    @asynccontextmanager
    async def open(
        self, endpoint: Endpoint, method: str, url: httpx2.URL, *, actions: str = "pull",
        headers: Mapping[str, str] | None = None, content: Content = None, expect: frozenset[int] = frozenset({200}),
        more_scopes: str = "", answer_timeout_s: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:  # fmt: skip
        """Ask once (twice, when a login is wanted) and give the answer, its body unread. Reads may be redirected.

        Raises:
            NotFound: 404. Forbidden: no leave, or a redirect to where none may lead. Interrupted: it may work later.
            TooLarge: 413. HostError: anything else than ``expect``.
        """
        scopes = " ".join(filter(None, (name_scope(endpoint.repository, actions), more_scopes)))
        authorization = await self._authority.authorize(endpoint, scopes)
        is_first = True
        addresses = await self._check_named(url)
        at, hops = url, 0
        while True:
            own = _origin(at) == _origin(url)
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization and own else {})}
            async with self._connections.send(
                method, at, sent, content, addresses=addresses, answer_timeout_s=answer_timeout_s
            ) as response:
                status = response.status_code
                if status == 401 and own and is_first:
                    is_first = False
                    challenges = response.headers.get_list("www-authenticate")
                    authorization = await self._authority.answer(endpoint, scopes, challenges, authorization)
                    if isinstance(content, AsyncIterator):
                        raise Interrupted(f"{endpoint.host} asked for a new login in the middle of an upload")
                    continue
                if status in _REDIRECTS and status not in expect:
                    if method not in ("GET", "HEAD"):
                        raise HostError(
                            f"{endpoint.host} redirects a {method}, which is not followed: only reading may be redirected"
                        )
                    hops += 1
                    at, addresses = await self._follow(endpoint, url, at, response.headers.get("location", ""), hops)
                    continue
                if status not in expect:
                    raise await self._explain(endpoint, response, sent)
                yield response
                return

    async def _follow(
        self, endpoint: Endpoint, start: httpx2.URL, at: httpx2.URL, location: str, hops: int
    ) -> tuple[httpx2.URL, tuple[str, ...]]:
        if hops > MAX_REDIRECTS:
            raise HostError(f"{endpoint.host} redirects more than {MAX_REDIRECTS} times")
        with explain_failure(start):
            to = at.join(location)
        if to.scheme not in _PORTS or not to.host or to.userinfo:
            raise Forbidden(f"{endpoint.host} redirects to {_show(to)}, which is not followed: it is no plain web address")
        if at.scheme == "https" and to.scheme == "http":
            raise Forbidden(f"{endpoint.host} redirects from https to {_show(to)}, which is not followed")
        named = await self._check_named(to)
        if _origin(to) == _origin(start):
            return to, named
        return to, await self._destinations.check(to.scheme, to.host, _port(to), await self._measure(start))

    async def _send_to_realm(
        self, endpoint: Endpoint, method: str, realm: str, headers: dict[str, str], content: bytes | None
    ) -> tuple[int, bytes]:
        start = await self.find_url(endpoint, "")
        with explain_failure(start):
            url = httpx2.URL(realm)
        if url.scheme != "https" and (url.scheme, start.scheme) != ("http", "http"):
            raise Forbidden(f"{endpoint.host} wants the login sent to {_show(url)}, which is not done: that is not https")
        addresses = await self._check_named(url)
        if _origin(url) != _origin(start):
            addresses = await self._destinations.check(url.scheme, url.host, _port(url), await self._measure(start))
        async with self._connections.send(method, url, headers, content, addresses=addresses) as response:
            if response.status_code in _PASSING:
                raise self._interrupted(endpoint, response, "its token server ")
            return response.status_code, await read_bounded(response, TOKEN_MAX_BYTES, f"the token of {endpoint.host}")

    async def _check_named(self, url: httpx2.URL) -> tuple[str, ...]:
        return await self._destinations.check_named(url.scheme, url.host, _port(url), self.settings.allowance)

    async def _measure(self, url: httpx2.URL) -> Reach:
        if url.host not in self._reaches:
            self._reaches[url.host] = await self._destinations.measure_registry(url.scheme, url.host, _port(url))
        return self._reaches[url.host]

    async def _find_scheme(self, endpoint: Endpoint) -> str:
        """https, but http for a host that may speak it and does not speak TLS. Nothing secret is in the question."""
        if not endpoint.may_be_plain:
            return "https"
        async with self._probing:
            if endpoint.host not in self._schemes:
                self._schemes[endpoint.host] = await self._probe_scheme(endpoint.host)
        return self._schemes[endpoint.host]

    async def _probe_scheme(self, host: str) -> str:
        try:
            url = httpx2.URL(f"https://{host}/v2/")
            async with self._connections.send("GET", url, {}, None, addresses=await self._check_named(url)):
                return "https"
        except Interrupted as error:
            cause = error.__cause__
            assert cause is not None
            if find_cause(cause, ssl.SSLError) or find_cause(cause, ConnectionResetError):
                return "http"
            if isinstance(cause, httpx2.TimeoutException) or find_cause(cause, OSError):
                raise
            return "http"
        except HostError:
            return "https"  # it speaks TLS and is not trusted, which the next request says in full

    async def _explain(self, endpoint: Endpoint, response: httpx2.Response, sent: Mapping[str, str]) -> VolantError:
        status = response.status_code
        said = await read_faults(response)
        told = f": {said}" if said else ""
        if status in _PASSING or (status >= 500 and status != 501):
            return self._interrupted(endpoint, response, "", told)
        if status == 401 and "Authorization" in sent:
            return await self._authority.explain_refusal(endpoint)
        if status in (401, 403):
            return Forbidden(
                f"{endpoint.host} does not give access to {endpoint.repository}{told}", hint="log in with an account that may"
            )
        if status == 404:
            return NotFound(f"{endpoint.host} has no {response.request.url.path.removeprefix('/v2/')[:300]}{told}")
        if status == 413:
            return TooLarge(f"{endpoint.host} does not take that much{told}")
        return HostError(f"{endpoint.host} answers {status} to {response.request.method} for {endpoint.repository}{told}")

    def _interrupted(self, endpoint: Endpoint, response: httpx2.Response, who: str, told: str = "") -> Interrupted:
        status = response.status_code
        what = "asks to come back later (429)" if status == 429 else f"answers {status}"
        hint = "log in, or use a mirror: registries let nobody pull without limit" if status == 429 else None
        after_s = read_retry_after(response.headers.get("retry-after"), self.clock)
        return Interrupted(f"{endpoint.host}: {who}{what}{told}", retry_after_s=after_s, hint=hint)


async def read_bounded(response: httpx2.Response, max_bytes: int, what: str) -> bytes:
    """The body. Raises TooLarge before reading when the length is announced, and while reading when it is not."""
    if response.request.method == "HEAD":
        return b""
    announced = response.headers.get("content-length", "")
    if max_bytes and announced.isdecimal() and (len(announced) > 18 or int(announced) > max_bytes):
        raise TooLarge(f"{what} has {announced[:24]} bytes, more than the {max_bytes} that it may have")
    body = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            body += chunk
            if not max_bytes and len(body) > ERROR_MAX_BYTES:
                return b""  # nobody asked for it
            if max_bytes and len(body) > max_bytes:
                raise TooLarge(f"{what} has more than the {max_bytes} bytes that it may have")
    return bytes(body)


async def read_faults(response: httpx2.Response) -> str:
    try:
        body = await read_bounded(response, ERROR_MAX_BYTES, "the error")
        faults = msgspec.json.decode(body, type=_Faults).errors
    except (TooLarge, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, httpx2.HTTPError):
        return ""
    text = "; ".join(fault.message or fault.code for fault in faults[:3])
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, _port(url)


def _port(url: httpx2.URL) -> int:
    return url.port or _PORTS.get(url.scheme, 0)


def same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Scheme, host and port are the same (RFC 6454, section 5)."""
    return _origin(one) == _origin(other)


def _show(url: httpx2.URL) -> str:
    return f"{url.scheme[:20]}://{url.host[:100]}"
