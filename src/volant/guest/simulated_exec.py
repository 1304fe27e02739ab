"""What a simulated guest runs for exec: a small table of programs that behave as their namesakes do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from volant.guest.deadline import race
from volant.guest.message import encode_message
from volant.guest.records import ExecDecoder, ExecType, encode_exec
from volant.guest.simulated import Refusal, SimulatedGuest
from volant.guest.stream import Stream

_SIMULATED_PID = 4_000
_NAMES = frozenset({"cat", "echo", "env", "false", "sh", "sleep", "true", "yes"})


async def run_exec(guest: SimulatedGuest, stream: Stream, opening: dict[str, Any], first: bytes) -> None:
    """Answer an exec stream from its opening to its end.

    A name of ``guest.programs`` prints what stands there; the workload's own program echoes its arguments; ``sh -c 'exit N'``
    exits with N; cat, echo, env, false, sleep, true and yes are themselves.

    Raises:
        Refusal: there is no such program, or the opening is not as specified.
    """
    argv, env = opening.get("argv"), opening.get("env", {})
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv) or not isinstance(env, dict):
        raise Refusal("malformed", "argv")
    assert guest.workload is not None
    name = argv[0].rpartition("/")[2]
    if name not in _NAMES and name not in guest.programs and argv[0] != guest.workload.argv[0]:
        raise Refusal("no_such_program", f"no program is called {argv[0]}")
    await stream.write(encode_message({"ok": {"pid": _SIMULATED_PID}}))
    program = _Program(guest, stream, argv, {**guest.workload.env, **env})
    with contextlib.suppress(TimeoutError):
        program.ended = await race(program.run(name), program.take_input(first))
    await stream.write(encode_exec(ExecType.END, msgspec.json.encode(program.ended, order="sorted")))
    stream.finish()


class _Program:
    def __init__(self, guest: SimulatedGuest, stream: Stream, argv: list[str], env: dict[str, str]) -> None:
        self._guest = guest
        self._stream = stream
        self._argv = argv
        self._env = env
        # One record is enough: while it waits the host's window is not given back, and that holds the writer.
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self.ended: dict[str, int] = {"code": 0}

    async def take_input(self, first: bytes) -> None:
        """Take the host's records; returns when a signal has ended the program."""
        decoder = ExecDecoder("host")
        data = first
        while True:
            for kind, content in decoder.feed(data):
                if kind is ExecType.SIGNAL:
                    self.ended = {"signal": content[0]}
                    return
                await self._stdin.put(content)
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
            case "sh":
                words = self._argv[-1].split()
                return {"code": int(words[1]) if words[:1] == ["exit"] else 127}
            case "echo":
                await self._print(" ".join(self._argv[1:]).encode() + b"\n")
            case _:
                await self._print(" ".join(self._argv).encode() + b"\n")
        return {"code": 0}

    async def _print(self, content: bytes, kind: ExecType = ExecType.STDOUT) -> None:
        if content:
            await self._stream.write(encode_exec(kind, content))
