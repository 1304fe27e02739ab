"""The link to one guest's agent: connects, stays connected, and carries requests, execs and logs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, TimedOut, VolantError
from volant.guest.breach import Breach, SessionOver
from volant.guest.control import Control
from volant.guest.deadline import first_of, within
from volant.guest.document import digest_document
from volant.guest.frame import GoAwayCode
from volant.guest.handshake import PATIENCE_S, Connection, NotTaken, Unanswered, dial, greet
from volant.guest.message import encode_message
from volant.guest.notices import apply_notice
from volant.guest.opening import REQUEST_TIMEOUT_S, StreamOpener, convert_answer
from volant.guest.pace import PingPace
from volant.guest.preamble import ZERO_SECRET
from volant.guest.protocol import (
    Frozen,
    GuestStats,
    Hello,
    OpenControl,
    Thawed,
)
from volant.guest.secret import SecretGuess
from volant.guest.session import Session
from volant.guest.state import AgentState
from volant.guest.stream import Stream

SYNC_TIMEOUT_S = 60.0
HELLO_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.05
BACKOFF_CAP_S = 2.0
LASTING_S = 1.0
"""A session that lived this long was a good one: after it the next attempt comes at once."""


class AgentLink(StreamOpener):
    """One guest's agent. ``run`` keeps it connected; everything else may be called at any time.

    ``connect`` makes a new connection and may raise GuestUnreachable. ``secret`` has 32 bytes and is the one in the
    guest's configuration document; ``former`` is what the guest holds until it has got that: zeros unless it is the copy of
    a guest that was configured. ``on_change`` is called in the event loop with every new state.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        secret: bytes,
        *,
        on_change: Callable[[AgentState], None],
        clock: Clock,
        client: str,
        former: bytes = ZERO_SECRET,
        pace: PingPace | None = None,
    ) -> None:
        self._connect = connect
        self._secret = secret
        self._guess = SecretGuess(former, secret)
        self._on_change = on_change
        self.clock = clock
        self._client = client
        self._pace = pace
        self._state = AgentState(since=clock.now(), reason="no connection yet")
        self._changed = asyncio.Event()
        self._next_state = self._state
        self._session: Session | None = None
        self._control: Control | None = None
        self._greeted = asyncio.Event()

    @property
    def state(self) -> AgentState:
        return self._state

    async def run(self) -> None:
        """Task body: connect, serve, and connect again for ever. Ends only by cancellation."""
        failures = unanswered = 0
        while True:
            began_s = self.clock.monotonic()
            pause_s = 0.0
            try:
                await self._run_session(unanswered)
            except Unanswered as over:
                # Waiting for the answer was the delay; the other secret is tried at once.
                unanswered += 1
                reason = str(over)
            except NotTaken as over:
                reason = str(over)
            except (SessionOver, VolantError) as over:
                reason = str(over)
                is_lasting = self._greeted.is_set() and self.clock.monotonic() - began_s >= LASTING_S
                failures = 1 if is_lasting else failures + 1
                unanswered = 0 if self._greeted.is_set() else unanswered
                pause_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16))
            self._publish_down(reason)
            await self.clock.sleep(pause_s)

    async def wait_for(self, predicate: Callable[[AgentState], bool], timeout_s: float | None) -> AgentState:
        """The first state that ``predicate`` holds for; now, if it does already. ``None`` waits without limit.

        Raises:
            TimedOut: none came within ``timeout_s``.
        """
        if timeout_s is None:
            return await self._wait_for(predicate)
        try:
            return await within(self.clock, timeout_s, self._wait_for(predicate))
        except TimeoutError as error:
            why = f": {self._state.reason}" if self._state.reason else ""
            raise TimedOut(f"the guest was not as expected within {timeout_s:g} s{why}") from error

    async def configure(self, document: bytes, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Hand the guest its configuration document; the same one again is accepted. Applied in the background.

        Raises:
            WrongState: another document holds.
            InvalidInput: the guest found a member wrong. TooLarge: it does not fit into a message.
            GuestUnreachable: the link is or went down, or no answer came; whether it arrived is then not known.
        """
        await self._request(
            "configure", {"document": document.decode("utf-8")}, timeout_s, "the guest did not take its configuration"
        )
        self._guess.prefer(self._secret)
        hello = self._next_state.hello
        if hello is not None and hello.state == "waiting":
            self._note_document(hello, document)

    async def renew(self, document: bytes, *, secret: bytes, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Give a configured guest another identity; its root and the run of its workload stay. The same document again is
        accepted. ``secret`` is the one in ``document`` and what the link uses from the next session on.

        Raises:
            WrongState: the guest is not configured.
            InvalidInput: the guest found a member wrong, or the root is not the one it has. TooLarge: it does not fit into
            a message.
            Unavailable: the guest failed on its way; the same document may be tried again.
            GuestUnreachable: the link is or went down, or no answer came; whether it arrived is then not known.
        """
        self._guess.expect(secret)
        await self._request("renew", {"document": document.decode("utf-8")}, timeout_s, "the guest did not take its new identity")
        self.set_secret(secret)
        hello = self._next_state.hello
        if hello is not None and hello.state == "configured":
            self._note_document(hello, document)

    def note_down(self, reason: str) -> None:
        """Say that nobody is connected, once ``run`` was cancelled and is not to be looked at as connected still."""
        self._publish_down(reason)

    def set_secret(self, secret: bytes) -> None:
        """From the next session on the guest holds ``secret``, as far as is known; the one before is still tried after it."""
        self._guess.prefer(secret)
        self._secret = secret

    async def freeze(self, timeout_s: float) -> bool:
        """Let nobody write to the guest's disk until ``thaw``, or for ``timeout_s`` (at most 60) at the longest. False when it
        has no writable disk; everything was then only written out.

        Raises:
            InvalidInput: not such a time. Unavailable: an earlier freeze is under way, or it could not be done in that time.
            GuestUnreachable: the link is or went down, or no answer came.
        """
        doing = "the guest's disk was not frozen"
        answer = await self._request("freeze", {"timeout_ms": round(timeout_s * 1000)}, timeout_s + REQUEST_TIMEOUT_S, doing)
        return convert_answer(answer, Frozen, doing).frozen

    async def thaw(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> bool:
        """End a freeze. False when there was none, for example because its time had passed: what was copied then is torn."""
        doing = "the guest's disk was not thawed"
        return convert_answer(await self._request("thaw", {}, timeout_s, doing), Thawed, doing).thawed

    async def sync(self, *, timeout_s: float = SYNC_TIMEOUT_S) -> None:
        """Have the guest write out to its disks what it has only in memory. Errors as of freeze."""
        await self._request("sync", {}, timeout_s, "the guest's disks were not synced")

    async def set_clock(self, unix_ns: int, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Step the guest's wall clock, nanoseconds since 1970."""
        await self._request("clock", {"unix_ns": unix_ns}, timeout_s, "the guest's clock was not set")

    async def shutdown(self, grace_s: float, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Ask the guest to stop its workload and power off; what still runs after ``grace_s`` is killed."""
        await self._request("shutdown", {"grace_ms": round(grace_s * 1000)}, timeout_s, "the guest was not asked to shut down")

    async def stats(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> GuestStats:
        doing = "the guest's statistics were not read"
        answer = await self._request("stats", {}, timeout_s, doing)
        return convert_answer(answer, GuestStats, doing)

    async def _run_session(self, unanswered: int) -> None:
        self._greeted.clear()
        reader, writer = await dial(self._connect, self.clock)
        session = Session(reader, writer, self.clock, pace=self._pace)
        secret = self._guess.pick(unanswered)
        patience_s = PATIENCE_S[min(unanswered // self._guess.count, len(PATIENCE_S) - 1)]
        reason = "the host closed the link"
        code: GoAwayCode | None = None
        try:
            stream = session.open_stream()
            opening = stream.take_first(encode_message(OpenControl(client=self._client)))
            first = await greet(reader, writer, self.clock, secret=secret, patience_s=patience_s, first=opening)
            code = GoAwayCode.NORMAL
            self._guess.prefer(secret)
            await self._serve(session, stream, first)
        except Breach as over:
            reason, code = str(over), GoAwayCode.PROTOCOL_ERROR
            raise
        except SessionOver as over:
            reason = str(over)
            raise
        finally:
            if self._control is not None:
                self._control.fail(reason)
            self._session = self._control = None
            await session.end(reason, code)

    async def _serve(self, session: Session, stream: Stream, first: bytes) -> None:
        control = Control(stream, self.clock, take_notice=self._take_notice, publish=self._publish)
        self._control, self._session = control, session
        await first_of(control.follow(), session.receive(first), self._watch(session))

    async def _watch(self, session: Session) -> None:
        try:
            await within(self.clock, HELLO_TIMEOUT_S, self._greeted.wait())
        except TimeoutError as error:
            raise SessionOver(f"the guest's agent did not say hello within {HELLO_TIMEOUT_S:g} s") from error
        await session.keep_alive()

    def _take_notice(self, content: dict[str, Any]) -> None:
        changed = apply_notice(self._next_state, content, greeted=self._greeted.is_set())
        if not self._greeted.is_set():
            self._greeted.set()
            changed = msgspec.structs.replace(changed, connected=True, reason="", since=self.clock.now())
            if self._session is not None and changed.hello is not None:
                self._session.allow_streams(changed.hello.max_streams)
        self._next_state = changed

    def _note_document(self, hello: Hello, document: bytes) -> None:
        told = msgspec.structs.replace(hello, state="configured", config_digest=digest_document(document))
        self._next_state = msgspec.structs.replace(self._next_state, hello=told)
        self._publish()

    def _publish_down(self, reason: str) -> None:
        since = self.clock.now() if self._next_state.connected else self._next_state.since
        self._next_state = msgspec.structs.replace(self._next_state, connected=False, reason=reason, since=since)
        self._publish()

    def _publish(self) -> None:
        if self._next_state == self._state:
            return
        self._state = self._next_state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(self._state)

    async def _wait_for(self, predicate: Callable[[AgentState], bool]) -> AgentState:
        while not predicate(self._state):
            await self._changed.wait()
        return self._state

    async def _request(self, type_: str, members: dict[str, Any], timeout_s: float, doing: str) -> dict[str, Any]:
        control = self._control
        if control is None or not self._greeted.is_set():
            raise GuestUnreachable(f"{doing}: {self._state.reason or 'the link is just coming up'}")
        return await control.request(type_, members, timeout_s=timeout_s, doing=doing)
