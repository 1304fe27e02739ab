"""Pipes between two pairs of sockets: what goes in at one end comes out at the other, and no end hangs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from volant.core.errors import GuestUnreachable
from volant.net.pipe import Pipe
from volant.net.socket import reset_connection

LIMIT_S = 10.0


class Carried:
    """A pipe with both of its far ends."""

    def __init__(self, *, by_stream: bool) -> None:
        self._by_stream = by_stream
        self.open = True
        self.asked: list[bool] = []
        self.left = asyncio.Event()
        self.moves = 0
        self.client, self._near_client = make_pair()
        self.guest, self._near_guest = make_pair()
        self.pipe = Pipe(may_pass=self._may_pass, on_move=self._move, on_leave=self.left.set)

    def _may_pass(self, pipe: Pipe, has_bytes: bool) -> bool:
        self.asked.append(has_bytes)
        return self.open

    def _move(self) -> None:
        self.moves += 1

    async def attach_client(self) -> None:
        await self.pipe.attach_client(self._near_client)

    async def attach_guest(self) -> None:
        if self._by_stream:
            self.pipe.attach_stream(SocketStream(self._near_guest))
        else:
            await self.pipe.attach_guest(self._near_guest)

    def close(self) -> None:
        for each in (self.client, self.guest, self._near_client, self._near_guest):
            each.close()


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over the loopback: resets are TCP's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    far.setblocking(False)
    near.setblocking(False)
    return far, near


class SocketStream:
    """Implements ByteStream over a socket, as the channel to a guest would."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def read(self, limit: int = 65536) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._connection, limit)
        except OSError as error:
            raise GuestUnreachable(str(error)) from error

    async def write(self, content: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, content)
        except OSError as error:
            raise GuestUnreachable(str(error)) from error

    async def write_eof(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        reset_connection(self._connection)


@pytest.fixture(params=["socket", "stream"])
async def carried(request: pytest.FixtureRequest) -> AsyncIterator[Carried]:
    made = Carried(by_stream=request.param == "stream")
    yield made
    await made.pipe.close()
    made.close()


async def send(end: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(end, data)


async def receive(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    async with asyncio.timeout(LIMIT_S):
        while len(data) < size:
            more = await asyncio.get_running_loop().sock_recv(end, size - len(data))
            assert more, "it ended early"
            data += more
    return bytes(data)


async def receive_all(end: socket.socket) -> bytes:
    data = b""
    async with asyncio.timeout(LIMIT_S):
        while more := await asyncio.get_running_loop().sock_recv(end, 65536):
            data += more
    return data


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)


async def fill(end: socket.socket) -> int:
    """Send until nothing has been taken for a good many turns of the loop; return how much was."""
    sent, refused = 0, 0
    while refused < 50:
        try:
            sent += end.send(bytes(65536))
            refused = 0
        except BlockingIOError:
            refused += 1
        await asyncio.sleep(0)
    return sent


async def test_bytes_go_both_ways(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    await send(carried.client, b"question")
    assert await receive(carried.guest, 8) == b"question"
    await send(carried.guest, b"answer")
    assert await receive(carried.client, 6) == b"answer"
    assert carried.moves == 3, "the guest that came counts too"


async def test_what_is_said_before_there_is_a_guest_is_held(carried: Carried) -> None:
    await carried.attach_client()
    await send(carried.client, b"early")
    await until(lambda: carried.moves == 1)
    await carried.attach_guest()
    await send(carried.client, b" and late")
    assert await receive(carried.guest, 14) == b"early and late"


async def test_what_is_held_is_bounded(carried: Carried) -> None:
    await carried.attach_client()
    sent = await fill(carried.client)
    assert carried.moves < 10
    await carried.attach_guest()
    assert len(await receive(carried.guest, sent)) == sent


async def test_a_client_that_leaves_before_there_is_a_guest_is_told_of(carried: Carried) -> None:
    await carried.attach_client()
    carried.client.close()
    await until(carried.left.is_set)
    await until(carried.pipe.ended.is_set)


async def test_a_client_that_asked_and_was_reset_is_told_of(carried: Carried) -> None:
    await carried.attach_client()
    await send(carried.client, b"question")
    await until(lambda: carried.moves == 1)
    reset_connection(carried.client)
    await until(carried.left.is_set)


async def test_a_client_that_asked_and_closed_its_half_is_answered(carried: Carried) -> None:
    await carried.attach_client()
    await send(carried.client, b"question")
    carried.client.shutdown(socket.SHUT_WR)
    await until(lambda: carried.moves == 1)
    await carried.attach_guest()
    assert await receive_all(carried.guest) == b"question"
    assert not carried.left.is_set()
    await send(carried.guest, b"answer")
    carried.guest.close()
    assert await receive_all(carried.client) == b"answer"
    await until(carried.pipe.ended.is_set)


async def test_each_half_is_closed_by_itself(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    carried.guest.shutdown(socket.SHUT_WR)
    assert await receive_all(carried.client) == b""
    await send(carried.client, b"still here")
    assert await receive(carried.guest, 10) == b"still here"
    assert not carried.pipe.ended.is_set()
    carried.client.shutdown(socket.SHUT_WR)
    assert await receive_all(carried.guest) == b""
    await until(carried.pipe.ended.is_set)


async def test_a_guest_that_resets_resets_its_client(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    reset_connection(carried.guest)
    with pytest.raises(ConnectionResetError):
        await receive(carried.client, 1)
    await until(carried.pipe.ended.is_set)


async def test_a_client_that_resets_resets_its_guest(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    reset_connection(carried.client)
    with pytest.raises(ConnectionResetError):
        await receive(carried.guest, 1)
    await until(carried.pipe.ended.is_set)


@pytest.mark.parametrize("upward", [True, False])
async def test_who_writes_faster_than_the_other_reads_is_slowed_and_loses_nothing(carried: Carried, upward: bool) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    source, target = (carried.client, carried.guest) if upward else (carried.guest, carried.client)
    sent = await fill(source)
    moves = carried.moves
    for _ in range(50):
        await asyncio.sleep(0)
    assert carried.moves == moves, "nobody reads what cannot be passed on"
    assert len(await receive(target, sent)) == sent
    await send(source, b"and on")
    assert await receive(target, 6) == b"and on"


async def test_a_guest_that_sleeps_is_given_what_was_said_when_it_wakes(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    carried.open = False
    await send(carried.client, b"wake up")
    await until(lambda: carried.pipe.holds_bytes)
    assert carried.asked[-1]
    with pytest.raises(BlockingIOError):
        carried.guest.recv(1)
    carried.open = True
    carried.pipe.flow()
    assert await receive(carried.guest, 7) == b"wake up"
    assert not carried.pipe.holds_bytes


async def test_a_client_that_leaves_a_sleeping_guest_asks_for_nothing(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    carried.open = False
    carried.client.close()
    await until(lambda: bool(carried.asked))
    assert carried.asked == [False]
    carried.open = True
    carried.pipe.flow()
    assert await receive_all(carried.guest) == b""


async def test_closing_resets_both(carried: Carried) -> None:
    await carried.attach_client()
    await carried.attach_guest()
    await carried.pipe.close()
    for end in (carried.client, carried.guest):
        with pytest.raises(ConnectionResetError):
            await receive(end, 1)
    assert not carried.left.is_set()
