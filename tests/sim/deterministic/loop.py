"""An event loop whose time passes only when nothing is left to do, and which can let a whole process vanish.

Nothing waits for the real clock: when everybody waits, the time of the first timer has come. Threads do not exist: what would
run in one is a callback like any other. So a run depends on nothing but what its random numbers say.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import random
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from .incarnation import INCARNATION, Incarnation

RUNAWAY_CALLBACKS = 200_000
"""Callbacks at one moment of simulated time after which it is taken to go on for ever."""

ThreadDelay = Callable[[str], float]
"""Seconds that pass until a thread has done the function of this name; it may raise what the function would."""


class Stuck(Exception):
    """Nothing can ever happen again, or it never stops happening."""


class _NumberedTask(asyncio.Task):  # type: ignore[type-arg]  # the class is generic for type checkers only
    """Hashed by its number, so that a set of tasks has the same order in every run."""

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self.number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class _NumberedFuture(asyncio.Future):  # type: ignore[type-arg]  # as above
    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class _Selector(selectors.DefaultSelector):
    """Never waits. Files come in the order in which they were registered first, whatever their numbers are."""

    def __init__(self, on_idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._on_idle = on_idle
        self._order = itertools.count()
        self._orders: dict[int, int] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._orders[key.fd] = next(self._order)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout != 0:
            self._on_idle(timeout)
        return sorted(found, key=lambda each: self._orders[each[0].fd])


class SimulatedLoop(asyncio.SelectorEventLoop):
    """``schedule`` decides in which order tasks that are ready run; ``thread_delay`` how long threads take."""

    def __init__(self, schedule: random.Random | None = None) -> None:
        self._now_s = 0.0
        self._schedule = schedule
        self._numbers = itertools.count(1)
        self._run_at_this_moment = 0
        self.thread_delay: ThreadDelay = lambda name: 0.0
        super().__init__(_Selector(self._pass_time))
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)
        self.defects: list[str] = []
        """What was raised where nobody could take it."""
        self.set_exception_handler(self._note_defect)

    def time(self) -> float:
        return self._now_s

    # What is of a process that was killed never runs again.

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        if context is not None and _is_dead(context):
            handle = asyncio.Handle(callback, args, self, context)
            handle.cancel()
            return handle
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def drop(self, incarnation: Incarnation) -> None:
        """Have nothing of ``incarnation``, which is dead, run again."""
        assert incarnation.is_dead
        waiting: list[asyncio.Handle] = [*self._ready, *self._scheduled]
        for handle in waiting:
            if _is_dead(handle._context):
                handle.cancel()

    # Threads

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """On the loop, some time later; like a thread it is done even when nobody waits for it any more."""
        future = self.create_future()
        name = _name_of(func)

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001  # raised again where it is awaited
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        try:
            delay_s = self.thread_delay(name)
        except Exception as error:  # noqa: BLE001  # an injected failure is the function's
            future.set_exception(error)
            return future
        if delay_s > 0:
            self.call_later(delay_s, run)
        else:
            self.call_soon(run)
        return future

    # The order of everything

    def create_future(self) -> asyncio.Future[Any]:
        return _NumberedFuture(number=next(self._numbers), loop=self)

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task = _NumberedTask(coro, loop=loop, context=context, number=next(self._numbers))
        incarnation = INCARNATION.get() if context is None else context.get(INCARNATION)
        if incarnation is not None:
            incarnation.tasks.add(task)
        return task

    def _run_once(self) -> None:
        ready = self._ready
        self._run_at_this_moment += len(ready)
        if self._run_at_this_moment > RUNAWAY_CALLBACKS:
            running = sorted({_describe(handle) for handle in ready})
            raise Stuck(f"{RUNAWAY_CALLBACKS} callbacks ran while no time passed; the last ones: {'; '.join(running)}")
        if self._schedule is not None and len(ready) > 1:
            self._shuffle(self._schedule)
        super()._run_once()  # type: ignore[misc]  # private, and what there is

    def _shuffle(self, schedule: random.Random) -> None:
        """Let tasks that could run now run in any order. Callbacks of transports keep theirs: asyncio itself counts on it."""
        ready = self._ready
        places = [i for i, handle in enumerate(ready) if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)]
        if len(places) < 2:
            return
        steps = [ready[i] for i in places]
        schedule.shuffle(steps)
        for i, step in zip(places, steps, strict=True):
            ready[i] = step

    def _pass_time(self, timeout: float | None) -> None:
        if timeout is None:
            waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
            raise Stuck(f"nothing can happen any more; {len(waiting)} tasks wait: {', '.join(waiting[:20])}")
        self._now_s = max(self._now_s, self._scheduled[0]._when)
        self._run_at_this_moment = 0

    def _note_defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if INCARNATION.get() is None and "never retrieved" in context["message"]:
            return  # of a process that was killed while it waited
        error = context.get("exception")
        self.defects.append(f"{context['message']}: {type(error).__name__}: {error}")


def _is_dead(context: contextvars.Context) -> bool:
    incarnation = context.get(INCARNATION)
    return incarnation is not None and incarnation.is_dead


def _describe(handle: asyncio.Handle) -> str:
    owner = getattr(handle._callback, "__self__", None)
    if not isinstance(owner, asyncio.Task):
        return repr(handle)
    # Where it stands: the innermost of the coroutines that wait for each other.
    places, coro = [], owner.get_coro()
    while coro is not None and hasattr(coro, "cr_frame"):
        frame = coro.cr_frame
        places.append(f"{coro.__qualname__}:{frame.f_lineno if frame else '?'}")
        coro = coro.cr_await
    return " > ".join(places)


def _name_of(func: Callable[..., Any]) -> str:
    while isinstance(func, functools.partial):
        # asyncio.to_thread wraps what it is given into one that runs in a copy of the context
        func = func.args[0] if func.args and getattr(func.func, "__name__", "") == "run" else func.func
    return getattr(func, "__qualname__", type(func).__name__)
