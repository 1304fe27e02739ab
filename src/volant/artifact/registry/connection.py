"""One HTTP request to one place: through a proxy or to addresses that were checked, its failures told as ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import httpx2

from volant import __version__
from volant.artifact.registry.destination import find_proxy
from volant.artifact.registry.patience import Interrupted
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.registry.transport import ClosingTransport
from volant.core.errors import HostError, VolantError

Content = bytes | AsyncIterator[bytes] | None


class Connections:
    """An HTTP client a proxy, and one for none; made when first needed. ``transport`` stands in for the network in tests."""

    def __init__(self, settings: RegistrySettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._clients: dict[str | None, httpx2.AsyncClient] = {}
        self._trust: ssl.SSLContext | None = None
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        await self._stack.aclose()
        self._clients.clear()

    @asynccontextmanager
    async def send(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str], content: Content, *,
        addresses: tuple[str, ...] = (), answer_timeout_s: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:  # fmt: skip
        """Send, and give the answer, its body unread; redirects are not followed. With ``addresses`` only those are spoken to.

        Raises:
            Interrupted: the connection failed or nothing came for too long. HostError: TLS does not trust the other side.
        """
        client = await self._client(None if self._transport is not None else find_proxy(url.scheme, url.host))
        stall_s = self._settings.stall_timeout_s
        timeout = httpx2.Timeout(
            connect=self._settings.connect_timeout_s, read=answer_timeout_s or stall_s, write=stall_s, pool=None
        )
        with explain_failure(url):
            response = None
            for place in addresses or ("",):
                request = client.build_request(
                    method, _pin(url, place), headers=_pin_headers(url, place, headers), content=content, timeout=timeout,
                    extensions={"sni_hostname": url.host} if place else {},
                )  # fmt: skip
                try:
                    response = await client.send(request, stream=True)
                    break
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    if place == (addresses or ("",))[-1]:
                        raise
            assert response is not None
            try:
                yield response
            finally:
                await response.aclose()

    async def _client(self, proxy: str | None) -> httpx2.AsyncClient:
        if proxy not in self._clients:
            if self._trust is None and self._transport is None:
                # 50 ms: the certificates of every authority are read, from where the environment says.
                self._trust = await asyncio.to_thread(httpx2.create_ssl_context, trust_env=True)
            # Not by the environment: which proxy is used was decided by find_proxy.
            transport = self._transport or ClosingTransport(
                verify=self._trust or True, trust_env=False, proxy=proxy,
                limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
            )  # fmt: skip
            client = httpx2.AsyncClient(
                transport=transport, trust_env=False, follow_redirects=False,
                headers={"User-Agent": f"volant/{__version__}", "Accept-Encoding": "identity"},
            )  # fmt: skip
            self._clients[proxy] = await self._stack.enter_async_context(client)
        return self._clients[proxy]


@contextmanager
def explain_failure(url: httpx2.URL) -> Iterator[None]:
    """Failures of the network as Interrupted, of trust as HostError. The query is not told: it may hold a signature."""
    where = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
    try:
        yield
    except httpx2.ConnectTimeout as error:
        raise Interrupted(f"{where} does not answer") from error
    except httpx2.TimeoutException as error:
        raise Interrupted(f"{where} stalled: nothing came or went for too long") from error
    except httpx2.TransportError as error:
        untrusted = find_cause(error, ssl.SSLCertVerificationError)
        if untrusted is not None:
            raise HostError(
                f"{where} is not trusted: {getattr(untrusted, 'verify_message', '') or untrusted}",
                hint="add its certificate authority to the host's, or name a file of them in SSL_CERT_FILE",
            ) from error
        raise Interrupted(f"{where}: {_describe(error)}") from error
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise HostError(f"{where} cannot be asked: {error}") from error


def find_cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first of ``kind`` among what led to ``error``."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        this = waiting.pop(0)
        if this is None or id(this) in seen or isinstance(this, VolantError):
            continue
        if isinstance(this, kind):
            return this
        seen.add(id(this))
        waiting += [this.__cause__, this.__context__]
        if isinstance(this, BaseExceptionGroup):
            waiting += this.exceptions
    return None


def _describe(error: httpx2.TransportError) -> str:
    return " ".join(str(error).split())[:200] or "the connection broke"


def _pin(url: httpx2.URL, address: str) -> httpx2.URL:
    return url.copy_with(host=address) if address else url


def _pin_headers(url: httpx2.URL, address: str, headers: Mapping[str, str]) -> dict[str, str]:
    # A pooled connection is known by its address alone and was verified for one name: it is not for another one's use.
    return {**headers, "Host": url.netloc.decode("ascii"), "Connection": "close"} if address else dict(headers)
