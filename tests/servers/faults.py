"""A proxy between a client and a storage server that does to single requests what networks do.

    with FaultProxy(url) as proxy:
        proxy.rule("PUT .*/manifest/", Reset(after=True), times=1)

Each request is written down in `proxy.requests` as "METHOD path". It speaks plain HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_HEADER_LIMIT = 1 << 20
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Status:
    """Answer with this status; the server never sees the request."""

    number: int = 503
    code: str = "SlowDown"


@dataclass(frozen=True)
class Reset:
    """Reset the connection; `after` the server has acted, so that its answer is lost."""

    after: bool = False


@dataclass(frozen=True)
class Hang:
    """Never answer; with `after`, although the server has acted."""

    after: bool = False


@dataclass(frozen=True)
class Cut:
    """Break the answer off after so many bytes of its body."""

    size_bytes: int


Fault = Status | Reset | Hang | Cut


@dataclass
class Rule:
    """The fault for requests whose line matches `pattern`, so many times and so often."""

    pattern: re.Pattern[str]
    fault: Fault
    times: int = 1_000_000_000
    chance: float = 1.0


@dataclass
class Message:
    """The head of a request or an answer."""

    raw: bytes
    line: str
    fields: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return int(self.fields.get(b"content-length", b"0"))

    @property
    def is_chunked(self) -> bool:
        return b"chunked" in self.fields.get(b"transfer-encoding", b"").lower()


class FaultProxy:
    def __init__(self, upstream: str, seed: int = 0) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._path = parts.path
        self._chance = random.Random(seed)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self.requests: list[str] = []
        self.faults = 0
        self.url = ""

    def rule(
        self, pattern: str, fault: Fault, times: int = 1_000_000_000, chance: float = 1.0
    ) -> None:
        with self._lock:
            self._rules.append(Rule(re.compile(pattern), fault, times, chance))

    def clear(self) -> None:
        """Forget the rules and what was asked so far."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()
            self.faults = 0

    def count(self, pattern: str = "") -> int:
        return sum(bool(re.search(pattern, line)) for line in list(self.requests))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_HEADER_LIMIT, backlog=1024
        )
        server = self._loop.run_until_complete(serving)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._path}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _fault_for(self, line: str) -> Fault | None:
        with self._lock:
            self.requests.append(line)
            for rule in self._rules:
                if not rule.times or not rule.pattern.search(line):
                    continue
                if self._chance.random() < rule.chance:
                    rule.times -= 1
                    self.faults += 1
                    return rule.fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                request = await _head(reader)
                fault = self._fault_for(" ".join(request.line.split(" ")[:2]))
                if fault == Hang():
                    await asyncio.sleep(3600)
                if fault == Reset():
                    _reset(writer)
                    return
                await _welcome(request, writer)
                if isinstance(fault, Status):
                    await _body(reader, None, request)
                    await _refuse(writer, request, fault)
                    continue
                if server is None:
                    server = await asyncio.open_connection(*self._upstream, limit=_HEADER_LIMIT)
                server[1].write(request.raw)
                await _body(reader, server[1], request)
                if not await _answer(server[0], writer, request, fault):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            return
        finally:
            writer.close()
            if server is not None:
                server[1].close()


async def _head(reader: asyncio.StreamReader) -> Message:
    raw = await reader.readuntil(b"\r\n\r\n")
    lines = raw[:-4].split(b"\r\n")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    return Message(raw, lines[0].decode("latin1"), fields)


async def _welcome(request: Message, writer: asyncio.StreamWriter) -> None:
    """Say ourselves that the body may come, so that the server need not."""
    if b"100-continue" in request.fields.get(b"expect", b""):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        request.raw = re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", request.raw)


async def _body(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter | None,
    message: Message,
    limit: int | None = None,
) -> None:
    """Pass on one body, or its first `limit` bytes."""
    left = limit if limit is not None else 1 << 62
    async for piece in _pieces(reader, message):
        if writer is not None:
            writer.write(piece[: max(0, left)])
            await writer.drain()
        left -= len(piece)
        if left <= 0 and limit is not None:
            return


async def _pieces(reader: asyncio.StreamReader, message: Message):  # type: ignore[no-untyped-def]
    while message.is_chunked:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        yield line + await reader.readexactly(size + 2)
        if not size:
            return
    left = message.length
    while left:
        piece = await reader.read(min(left, _PIECE_BYTES))
        if not piece:
            raise ConnectionError("the body ended early")
        left -= len(piece)
        yield piece


async def _refuse(writer: asyncio.StreamWriter, request: Message, fault: Status) -> None:
    body = b"" if request.line.startswith("HEAD") else _error_body(fault)
    head = f"HTTP/1.1 {fault.number} Injected\r\nContent-Type: application/xml\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


def _error_body(fault: Status) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{fault.code}</Code></Error>'.encode()


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Message,
    fault: Fault | None,
) -> bool:
    """Pass the server's answer on, or lose it; False if the connection is over."""
    answer = await _head(reader)
    while answer.line.split(" ")[1] == "100":
        answer = await _head(reader)
    bare = request.line.startswith("HEAD") or answer.line.split(" ")[1] in ("204", "304")
    if isinstance(fault, Reset):
        _reset(writer)
        return False
    if isinstance(fault, Hang):
        await asyncio.sleep(3600)
    writer.write(answer.raw)
    if not bare:
        await _body(reader, writer, answer, fault.size_bytes if isinstance(fault, Cut) else None)
    await writer.drain()
    if isinstance(fault, Cut):
        _reset(writer)
        return False
    return answer.fields.get(b"connection", b"").lower() != b"close"


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
