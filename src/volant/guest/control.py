"""The control stream of one session: requests and their answers, notices (docs/guest-protocol.md, sections 4.1 and 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable
from volant.guest.breach import Breach, SessionOver
from volant.guest.bucket import TokenBucket
from volant.guest.deadline import within
from volant.guest.message import MessageDecoder, decode_body, encode_message
from volant.guest.protocol import build_error
from volant.guest.stream import Stream

MESSAGES_PER_S = 50.0
MESSAGES_BURST = 100.0
"""Beyond this the stream is read more slowly, and its window holds the guest back."""

_BYTES_A_TOKEN = 4_096


class Control:
    """``take_notice`` gets every message that is no answer; ``publish`` is called when no more are at hand."""

    def __init__(
        self, stream: Stream, clock: Clock, *, take_notice: Callable[[dict[str, Any]], None], publish: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._take_notice = take_notice
        self._publish = publish
        self._decoder = MessageDecoder()
        self._budget = TokenBucket(clock, rate_per_s=MESSAGES_PER_S, burst=MESSAGES_BURST)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 1
        self._over: str | None = None

    async def follow(self) -> None:
        """Task body: read the stream until it ends. Raises SessionOver, or Breach for what is not as specified."""
        while True:
            try:
                data = await self._stream.read()
            except GuestUnreachable as error:
                raise SessionOver(error.message) from error
            if not data:
                raise SessionOver("the guest's agent closed the control stream")
            self._decoder.feed(data)
            while (body := self._decoder.next_body()) is not None:
                self._take_message(decode_body(body))
                debt_s = self._budget.spend(1 + len(body) / _BYTES_A_TOKEN)
                if debt_s > 0:
                    self._publish()
                    await self._clock.sleep(debt_s)
            self._publish()

    async def request(self, type_: str, members: dict[str, Any], *, timeout_s: float, doing: str) -> dict[str, Any]:
        """Send a request and return the ``ok`` of its answer; ``doing`` begins the message of every error.

        Raises:
            GuestUnreachable: the session ended, or no answer came within ``timeout_s``.
            VolantError: what the guest answered, as build_error maps it.
        """
        if self._over is not None:
            raise GuestUnreachable(f"{doing}: {self._over}")
        number = self._next_id
        self._next_id += 1
        message = encode_message({"id": number, "type": type_, **members})
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered

        async def ask() -> dict[str, Any]:
            await self._stream.write(message)
            return await answered

        try:
            answer = await within(self._clock, timeout_s, ask())
        except TimeoutError as error:
            raise GuestUnreachable(f"{doing}: the guest's agent did not answer within {timeout_s:g} s") from error
        except GuestUnreachable as error:
            raise GuestUnreachable(f"{doing}: {error.message}") from error
        finally:
            self._waiting.pop(number, None)
            if not answered.cancel() and not answered.cancelled():
                answered.exception()  # It may have failed with the session while the question still waited for room.
        if "error" in answer:
            raise build_error(answer["error"], doing)
        ok = answer.get("ok")
        if not isinstance(ok, dict):
            raise GuestUnreachable(f"{doing}: the guest's agent gave an answer that is not as specified")
        return ok

    def fail(self, reason: str) -> None:
        """The session is over: what was in flight fails with ``reason``."""
        self._over = reason
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(GuestUnreachable(reason))

    def _take_message(self, content: dict[str, Any]) -> None:
        number = content.get("re")
        if number is None:
            self._take_notice(content)
            return
        if type(number) is not int:
            raise Breach("the guest's agent answered a request that has no number")
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(content)
