"""What stands before every server: who may ask, how much, and how long that may take.

Comes in: an ASGI application. Goes out: the same behind a gate: the Host must be this machine (no rebinding of names), a
web page may call only from the host that it asks, a body must be JSON, whole within `PATIENCE` seconds and bounded; whoever
sends or reads too slowly is cut off. Nothing here computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError
from ..options import check
from ..text import printable

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_BODY = 2**20
MOST_TAKEN = 64 * 2**20  # bytes of a refused request that are read and thrown away
PATIENCE = 10.0  # seconds for a whole request to arrive
SLOW = 30.0  # seconds in which a reader must take what stands in its buffer
GONE = "promptprobe.gone"  # in a scope: an event that is set when the client has left


def check_address(host: str, port: int) -> None:
    """Raise `InputError` unless `host` is loopback and `port` free."""
    if host not in LOOPBACK:
        raise InputError(f"--host is {host!r}; only loopback is served ({', '.join(LOOPBACK)}): put a proxy in front")
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}; it must be between 1 and 65535")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} can't be used: {error.strerror}; choose another --port") from error


def check_transport(transport: str, host: str, port: int) -> None:
    """Raise `InputError` for another transport than stdio or http, a host that is not loopback, or a port in use."""
    check("transport", transport)
    if transport == "http":
        check_address(host, port)


def error_body(status: int, message: str, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    named = None if parameter is None else printable(parameter)
    return {"error": {"message": printable(message), "type": kind, "param": named, "code": code}}


class Refused(Exception):
    """A request that does not come in: its status, and why."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Gate:
    """An ASGI application behind the gate; `closed` are paths that are refused by name, with what is said of each."""

    def __init__(self, app: Any, closed: Mapping[str, str] | None = None):
        self.app, self.closed = app, closed or {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ended = False  # the request, or its client

        async def heard() -> Any:
            nonlocal ended
            message = await receive()
            ended = message["type"] == "http.disconnect" or not message.get("more_body")
            return message

        async def rest() -> None:
            taken = 0
            while not ended and taken < MOST_TAKEN:
                taken += len((await heard()).get("body", b""))

        try:
            headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
            check_request(scope["method"], headers)
            if scope["path"] in self.closed:
                raise Refused(404, self.closed[scope["path"]], "unsupported_endpoint")
            check_type(scope["method"], headers)
            body = await asyncio.wait_for(_body(heard), PATIENCE)
        except TimeoutError:
            await _refuse(send, Refused(408, f"the request did not arrive within {PATIENCE:g} seconds"))
            return
        except Refused as refused:
            await _refuse(send, refused, rest)
            return
        if body is None:  # left before all was said
            return
        scope[GONE] = gone = asyncio.Event()
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            if waiting:
                return waiting.pop()
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        answering = False

        async def sent(message: Any) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self.app(scope, replay, sent)
        except asyncio.CancelledError:  # the server ends
            if not answering:
                await _refuse(send, Refused(503, "the server is being stopped; ask again when it runs"))


def check_request(method: str, headers: Mapping[str, str]) -> None:
    """Raise `Refused` for a Host that is not this machine, or a page of another host."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name not in LOOPBACK:
        raise Refused(421, f"the Host is {host!r:.80}; this server answers to {', '.join(LOOPBACK)} only")
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Refused(403, f"the Origin is {origin!r:.80}; only pages of this server itself may call it")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "the request is another page's; only pages of this server itself may call it")


def check_type(method: str, headers: Mapping[str, str]) -> None:
    """Raise `Refused` for a body that is no JSON: those of other types any page may send without being asked."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method in ("POST", "PUT", "PATCH") and kind != "application/json":
        raise Refused(415, f"the content type is {kind!r:.80}; send application/json", "unsupported_content_type")


async def _body(receive: Any) -> bytes | None:
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        data += message.get("body", b"")
        if len(data) > MAX_BODY:
            raise Refused(413, f"the request has more than {MAX_BODY} bytes")
        if not message.get("more_body"):
            return bytes(data)


async def _refuse(send: Any, refused: Refused, rest: Callable[[], Awaitable[None]] | None = None) -> None:
    """Say so at once. `rest` takes what is still sent: many clients send all before they read, and a connection that is closed with
    bytes unread takes the answer with it."""
    data = json.dumps(error_body(refused.status, refused.message, None, refused.code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode()), (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": rest is not None})
    if rest is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(rest(), PATIENCE)
        await send({"type": "http.response.body", "body": b""})


def serve_app(app: Any, host: str, port: int, told: Callable[[Any], None] | None = None) -> None:
    """Serve an application until stopped; whoever sends or reads too slowly loses the connection. `told` gets the server."""
    import uvicorn

    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, http=_protocol(), ws="none",
        timeout_graceful_shutdown=5, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    if told:
        told(server)
    with contextlib.suppress(KeyboardInterrupt):  # as uvicorn.run does
        server.run()


def _protocol() -> Any:
    from h11 import IDLE
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Timed(H11Protocol):
        """uvicorn's protocol, with an end for heads that never come and for readers that take nothing."""

        head: asyncio.TimerHandle | None = None
        full: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.head = self.loop.call_later(PATIENCE, transport.abort)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            half = self.conn.their_state is IDLE and bool(self.conn.trailing_data[0])
            if not half:
                self.head = _stop(self.head)
            elif self.head is None:
                self.head = self.loop.call_later(PATIENCE, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.full = self.full or self.loop.call_later(SLOW, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.full = _stop(self.full)

        def connection_lost(self, exc: Exception | None) -> None:
            self.head, self.full = _stop(self.head), _stop(self.full)
            super().connection_lost(exc)

    return Timed


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; nothing is left of it."""
    if timer is not None:
        timer.cancel()
    return None
