"""Serves orgs over HTTP on loopback: what is common to every vendor's front door.

Around a dialect's routes it puts the org's clock (the ``Date`` header), the request log and
the faults asked for. Everything of one process runs on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import TypeAlias
from urllib.parse import unquote_plus

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox import admin
from sandbox.faults import Fault, Kind
from sandbox.org import Org, RequestEntry

HOST = "127.0.0.1"
LONGEST_HANG_SECONDS = 300.0
HTML_PAGE = (
    "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body>"
    "</html>"
)

Peer: TypeAlias = tuple[str, int]

log = logging.getLogger("sandbox")


class PortTakenError(OSError):
    """The port asked for cannot be listened on."""


@dataclass(slots=True)
class Answer:
    """A response held back until it is known whether it may leave as it is."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def of(cls, status: int, body: str, content_type: str, headers: Mapping[str, str]) -> Answer:
        """An answer from text."""
        named = {"content-type": content_type, **{k.lower(): v for k, v in headers.items()}}
        pairs = [(k.encode(), v.encode()) for k, v in named.items()]
        return cls(status, pairs, body.encode())


class Gateway:
    """The ASGI application in front of one org's routes."""

    def __init__(self, org: Org, routes: Sequence[Route]) -> None:
        self.org = org
        self.stopping = asyncio.Event()
        self.connections: dict[Peer, asyncio.Transport] = {}
        self._app: ASGIApp = Starlette(routes=[*admin.routes(org), *routes])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: by a fault that waits for it, or by the dialect."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        self.org.settle()
        answer = await self._serve(scope, body, receive)
        self._log(scope, answer.status if answer else 0)
        if answer is None:
            await self._hang_up(scope, receive)
        else:
            await self._send(answer, send)

    async def _serve(self, scope: Scope, body: bytes, receive: Receive) -> Answer | None:
        path = _path_with_query(scope)
        if path.startswith(admin.PREFIX):
            return await self._ask(scope, body)
        text = body.decode(errors="replace")
        fault = self.org.faults.take(scope["method"], unquote_plus(path), text)
        if fault is None:
            return await self._ask(scope, body)
        log.info("fault %s for %s %s", fault.kind.value, scope["method"], path)
        return await self._serve_fault(fault, scope, body, receive)

    async def _serve_fault(
        self, fault: Fault, scope: Scope, body: bytes, receive: Receive
    ) -> Answer | None:
        if fault.kind in (Kind.STATUS, Kind.HTML, Kind.EMPTY):
            return _canned(self.org, fault)
        if fault.kind == Kind.HANG:
            await self._pause(fault.seconds, receive)
            return None
        if fault.kind == Kind.DISCONNECT:
            return None
        if fault.kind == Kind.SLOW:
            await self._pause(fault.seconds, receive)
        answer = await self._ask(scope, body)
        if fault.kind == Kind.LOST_ANSWER:
            return None
        if fault.kind == Kind.CUT_JSON:
            answer.body = answer.body[: max(1, len(answer.body) // 2)]
        return answer

    async def _ask(self, scope: Scope, body: bytes) -> Answer:
        """The dialect's own answer."""
        answer = Answer()

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = list(message.get("headers", []))
            else:
                answer.body += message.get("body", b"")

        try:
            await self._app(dict(scope), receive, send)
        except Exception:
            # The client sees a 500 as from any vendor; the sandbox's own log says why.
            log.exception("%s %s failed", scope["method"], scope["path"])
            return Answer.of(500, '{"message":"sandbox failure"}', "application/json", {})
        return answer

    async def _pause(self, seconds: float, receive: Receive) -> None:
        """Wait, but no longer than the client does, nor than the server lives."""
        waits = [
            asyncio.ensure_future(_disconnected(receive)),
            asyncio.ensure_future(self.stopping.wait()),
        ]
        timeout = min(seconds, LONGEST_HANG_SECONDS)
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _hang_up(self, scope: Scope, receive: Receive) -> None:
        transport = self.connections.get(tuple(scope["client"]))
        if transport is not None:
            transport.close()
        await _disconnected(receive)

    async def _send(self, answer: Answer, send: Send) -> None:
        # Connectors take the vendor's time from here; it has to be the org's, not the host's.
        date = format_datetime(self.org.now(), usegmt=True).encode()
        length = str(len(answer.body)).encode()
        own = [(b"date", date), (b"content-length", length)]
        kept = [(k, v) for k, v in answer.headers if k.lower() not in (b"date", b"content-length")]
        headers = [*kept, *own]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _log(self, scope: Scope, status: int) -> None:
        path, _, query = _path_with_query(scope).partition("?")
        if not path.startswith(admin.PREFIX):
            entry = RequestEntry(self.org.now(), scope["method"], path, query, status)
            self.org.requests.append(entry)
            log.info("%s %s %s %s", self.org.crm, scope["method"], path, status)


class Listener:
    """One org's port, bound as soon as it is made."""

    def __init__(self, org: Org, routes: Sequence[Route], port: int) -> None:
        self.gateway = Gateway(org, routes)
        self._socket = _listening(port)
        config = uvicorn.Config(
            self.gateway,
            http=_protocol(self.gateway.connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            # A URL too long for the vendor must still reach the dialect, which says 414.
            h11_max_incomplete_event_size=1 << 20,
        )
        self._server = _Server(config, self.gateway.stopping)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._socket.getsockname()[1]}"

    async def serve(self) -> None:
        """Answer requests until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Finish what is being answered and end; hanging requests are cut."""
        self.gateway.stopping.set()


async def serve(listeners: Mapping[str, Listener], *, until_stdin_closes: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; prints one JSON line of name to URL once connectable.

    With `until_stdin_closes` it also ends with the process that holds the other end of its
    standard input, so that whoever started it cannot leave it behind.
    """
    loop = asyncio.get_running_loop()
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_stdin, list(listeners.values()))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_all, list(listeners.values()))
    # The sockets listen already: whoever reads this line can connect.
    print(json.dumps({name: it.url for name, it in listeners.items()}), flush=True)  # noqa: T201
    await asyncio.gather(*(listener.serve() for listener in listeners.values()))


def _stop_at_end_of_stdin(listeners: Sequence[Listener]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        _stop_all(listeners)


def _listening(port: int) -> socket.socket:
    # The protocol has to be named: only then does asyncio switch off the delay of small
    # packets, which costs 40 ms an answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise PortTakenError(f"cannot listen on port {port}: {error.strerror}") from error
    listening.listen(128)
    return listening


def _stop_all(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.stop()


class _Server(uvicorn.Server):
    """Several servers share a process, so none of them may take the signals."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def main_loop(self) -> None:
        """Wait for the end; what uvicorn does every tenth of a second is not needed here."""
        await self._stopping.wait()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _protocol(connections: dict[Peer, asyncio.Transport]) -> type[H11Protocol]:
    """An HTTP protocol that keeps its transport at hand, to be cut without an answer."""

    class Protocol(H11Protocol):
        def connection_made(  # type: ignore[override]  # as uvicorn's own, for sockets
            self, transport: asyncio.Transport
        ) -> None:
            super().connection_made(transport)
            if self.client is not None:
                connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.pop(self.client, None)
            super().connection_lost(exc)

    return Protocol


def _canned(org: Org, fault: Fault) -> Answer:
    usual = org.usual_answer(fault.status) if fault.kind == Kind.STATUS else None
    if usual is not None and not fault.body:
        headers = {**usual.headers, **fault.headers}
        return Answer.of(fault.status, usual.body, usual.content_type, headers)
    if fault.kind == Kind.EMPTY:
        return Answer.of(fault.status, "", "application/json", fault.headers)
    if fault.kind == Kind.HTML:
        page = fault.body or HTML_PAGE.format(status=fault.status)
        return Answer.of(fault.status, page, "text/html", fault.headers)
    return Answer.of(fault.status, fault.body, "application/json", fault.headers)


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _path_with_query(scope: Scope) -> str:
    path = scope.get("raw_path", b"").decode("latin-1") or str(scope["path"])
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
