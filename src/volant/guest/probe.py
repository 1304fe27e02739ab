"""Whether a guest has opened its channel, asked without telling it anything: what a template is taken from must be fresh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from volant.core.clock import Clock
from volant.core.errors import TimedOut, VolantError
from volant.guest.breach import SessionOver
from volant.guest.deadline import within
from volant.guest.handshake import PATIENCE_S, Connection, NotTaken, Unanswered, dial, greet
from volant.guest.preamble import ZERO_SECRET

_PAUSE_S = 0.05


async def await_echo(connect: Callable[[], Awaitable[Connection]], clock: Clock, *, timeout_s: float) -> None:
    """Return once a guest that is not configured has answered a preamble; the connection is closed again.

    No control stream is opened, so the guest says no hello, and does not read the boot id that its clones must not share.

    Raises:
        TimedOut: it did not answer within ``timeout_s``.
    """
    reasons = ["no connection yet"]
    try:
        await within(clock, timeout_s, _try_until_answered(connect, clock, reasons))
    except TimeoutError as error:
        raise TimedOut(
            f"the guest's agent did not open its channel within {timeout_s:g} s: {reasons[-1]}",
            hint="the guest's console says how far it came",
        ) from error


async def _try_until_answered(connect: Callable[[], Awaitable[Connection]], clock: Clock, reasons: list[str]) -> None:
    unanswered = 0
    while True:
        pause_s = 0.0
        try:
            await _greet_once(connect, clock, PATIENCE_S[min(unanswered, len(PATIENCE_S) - 1)])
        except Unanswered as over:
            unanswered += 1
            reasons[:] = [str(over)]
        except NotTaken as over:
            reasons[:] = [str(over)]
        except (SessionOver, VolantError) as over:
            reasons[:] = [str(over)]
            pause_s = _PAUSE_S
        else:
            return
        await clock.sleep(pause_s)


async def _greet_once(connect: Callable[[], Awaitable[Connection]], clock: Clock, patience_s: float) -> None:
    reader, writer = await dial(connect, clock)
    try:
        await greet(reader, writer, clock, secret=ZERO_SECRET, patience_s=patience_s)
    finally:
        writer.transport.abort()
