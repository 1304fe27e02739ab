"""What a simulated guest runs for exec: a small table of programs that behave as their namesakes do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from volant.guest.deadline import race
from volant.guest.message import encode_message
from volant.guest.records import ExecDecoder, ExecType, encode_exec
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_terminal import SimulatedTerminal
from volant.guest.simulated_types import Refusal
from volant.guest.stream import Stream

_SIMULATED_PID = 4_000
_NAMES = frozenset({"cat", "echo", "env", "false", "sh", "sleep", "true", "yes"})


async def run_exec(guest: SimulatedGuest, stream: Stream, opening: dict[str, Any], first: bytes) -> None:
    """Answer an exec stream from its opening to its end.

    A name of ``guest.programs`` prints what stands there; the workload's own program echoes its arguments; ``sh -c 'exit N'``
    exits with N; cat, echo, env, false, sleep, true and yes are themselves. With a terminal ``sh`` takes lines (``size``,
    ``exit N``, anything else is printed) and the terminal echoes what is typed.

    Raises:
        Refusal: there is no such program, or the opening is not as specified.
    """
    argv, env = opening.get("argv"), opening.get("env", {})
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv) or not isinstance(env, dict):
        raise Refusal("malformed", "argv")
    tty = opening.get("tty")
    assert guest.workload is not None
    name = argv[0].rpartition("/")[2]
    if name not in _NAMES and name not in guest.programs and argv[0] != guest.workload.argv[0]:
        raise Refusal("no_such_program", f"no program is called {argv[0]}")
    await stream.write(encode_message({"ok": {"pid": _SIMULATED_PID}}))
    program = _Program(guest, stream, argv, {**guest.workload.env, **env}, SimulatedTerminal(tty) if tty is not None else None)
    with contextlib.suppress(TimeoutError):
        program.ended = await race(program.run(name), program.take_input(first))
    await stream.write(encode_exec(ExecType.END, msgspec.json.encode(program.ended, order="sorted")))
    stream.finish()


class _Program:
    def __init__(
        self, guest: SimulatedGuest, stream: Stream, argv: list[str], env: dict[str, str], tty: SimulatedTerminal | None
    ) -> None:
        self._guest = guest
        self._stream = stream
        self._argv = argv
        self._env = env if tty is None else {**env, "TERM": tty.term}
        self._tty = tty
        # One record is enough: while it waits the host's window is not given back, and that holds the writer.
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self.ended: dict[str, int] = {"code": 0}

    async def take_input(self, first: bytes) -> None:
        """Take the host's records; returns when a signal has ended the program."""
        decoder = ExecDecoder("host", tty=self._tty is not None)
        data = first
        while True:
            for kind, content in decoder.feed(data):
                number = content[0] if kind is ExecType.SIGNAL else 0
                if kind is ExecType.RESIZE and self._tty is not None:
                    self._tty.resize(content)
                elif kind is ExecType.STDIN and self._tty is not None:
                    echo, typed, number = self._tty.type(content)
                    await self._print(echo)
                    for line in typed:
                        await self._stdin.put(line)
                elif kind is ExecType.STDIN:
                    await self._stdin.put(content)
                if number:
                    self.ended = {"signal": number}
                    return
            data = await self._stream.read()
            if not data:
                await self._stdin.put(b"")
                await asyncio.Event().wait()

    async def run(self, name: str) -> dict[str, int]:
        """The program from start to end; returns how it ended."""
        if name in self._guest.programs:
            stdout, stderr, code = self._guest.programs[name]
            await self._print(stdout)
            await self._print(stderr, ExecType.STDERR)
            return {"code": code}
        match name:
            case "true":
                pass
            case "false":
                return {"code": 1}
            case "cat":
                while content := await self._stdin.get():
                    await self._print(content)
            case "env":
                await self._print("".join(f"{key}={value}\n" for key, value in sorted(self._env.items())).encode())
            case "sleep":
                await self._guest.clock.sleep(float(self._argv[1]))
            case "yes":
                while True:
                    await self._print(b"y\n" * 8192)
            case "sh" if self._tty is not None:
                return await self._take_lines(self._tty)
            case "sh":
                words = self._argv[-1].split()
                return {"code": int(words[1]) if words[:1] == ["exit"] else 127}
            case "echo":
                await self._print(" ".join(self._argv[1:]).encode() + b"\n")
            case _:
                await self._print(" ".join(self._argv).encode() + b"\n")
        return {"code": 0}

    async def _take_lines(self, tty: SimulatedTerminal) -> dict[str, int]:
        await self._print(b"$ ")
        while line := await self._stdin.get():
            match line.decode("utf-8", "replace").split():
                case ["exit", number]:
                    return {"code": int(number)}
                case ["size"]:
                    await self._print(b"%d %d\n" % tty.size)
                case _:
                    await self._print(line)
            await self._print(b"$ ")
        return {"code": 0}

    async def _print(self, content: bytes, kind: ExecType = ExecType.STDOUT) -> None:
        if content and self._tty is not None:
            content, kind = content.replace(b"\n", b"\r\n"), ExecType.STDOUT
        if content:
            await self._stream.write(encode_exec(kind, content))
