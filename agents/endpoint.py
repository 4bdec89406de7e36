"""Send one request to a chat endpoint and bring its whole answer back, within a time and a size.

Comes in: a path and a JSON body. Goes out: what arrived, or why nothing did. The request runs in a thread of its own, so
an endpoint that drips bytes, stalls or never ends can't hold whoever asked; the time counts from when the request is
really sent, not from when it began to queue.
"""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

MAX_ANSWER_BYTES = 4_000_000
LOOPBACK_AT_ONCE = 1  # a local server mostly has one slot; more would only wait there, on the clock
TICK = 0.1  # seconds between looks at the clock
LEAST = 0.2  # seconds that must be left for a request to leave the queue

_slots: dict[tuple[str, int], threading.Semaphore] = {}
_slots_lock = threading.Lock()


class TimedOut(Exception):
    """Sent, and no usable answer within the time for one request."""


class TooLate(Exception):
    """The time for everything is over."""


class Broken(Exception):
    """No connection, or one that broke."""


@dataclass
class Arrived:
    """An answer: `whole` is False when time, size or the connection ended it, and what came so far is there."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True
    late: bool = False  # the time for one request ended it


@dataclass
class _Exchange:
    """What the thread that reads and the thread that waits share."""

    chunks: list[bytes] = field(default_factory=list)
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    error: Exception | None = None
    left: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class Pacer:
    """Shared by threads that ask one endpoint: when it says wait to one of them, all wait."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic):
        self.sleep, self.clock = sleep, clock
        self._lock = threading.Lock()
        self._open_at = 0.0

    def left(self) -> float:
        """Seconds until the endpoint may be asked again."""
        return max(0.0, self._open_at - self.clock())

    def wait(self) -> None:
        """Sleep until the endpoint may be asked again."""
        while (left := self._open_at - self.clock()) > 0:
            self.sleep(left)

    def hold(self, seconds: float) -> None:
        """Nobody asks for this long."""
        with self._lock:
            self._open_at = max(self._open_at, self.clock() + seconds)


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Endpoint:
    """A base URL with its key. `at_once` requests run at the same time for the whole process, None is no limit."""

    def __init__(self, base_url: str, api_key: str, *, at_once: int | None = None):
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        self.host = parts.hostname or ""
        self.local = is_loopback(self.base_url)
        self.headers = {
            "authorization": f"Bearer {api_key}", "content-type": "application/json", "accept-encoding": "identity",
            "accept": "application/json, text/event-stream", "user-agent": "promptprobe",
        }  # fmt: skip
        if self.host.endswith(".azure.com"):
            self.headers["api-key"] = api_key
        at_once = at_once or (LOOPBACK_AT_ONCE if self.local else None)
        self._slot = None
        if at_once is not None:
            with _slots_lock:
                place = (self.host, parts.port or 0)
                self._slot = _slots.setdefault(place, threading.Semaphore(at_once))

    def send(
        self, path: str, body: Any, *, timeout: float, until: float | None = None,
        on_tick: Callable[[bool], None] = lambda queued: None,
    ) -> Arrived:  # fmt: skip
        """POST `body` (GET where it is None) and wait; `until` is a time of `time.monotonic`. `on_tick` is called while
        waiting, with whether the request is still in the queue.

        Raises `TimedOut`, `TooLate` or `Broken`; nothing else, whatever the endpoint does.
        """
        self._enter(until, on_tick)
        try:
            return self._exchange(path, body, timeout, until, on_tick)
        finally:
            if self._slot is not None:
                self._slot.release()

    def _enter(self, until: float | None, on_tick: Callable[[bool], None]) -> None:
        while True:
            if until is not None and time.monotonic() >= until - LEAST:
                raise TooLate
            if self._slot is None or self._slot.acquire(timeout=TICK):
                return
            on_tick(True)

    def _exchange(self, path, body, timeout, until, on_tick) -> Arrived:
        began = time.monotonic()
        ends = began + timeout if until is None else min(began + timeout, until)
        exchange = _Exchange()
        work = threading.Thread(
            target=self._run, args=(exchange, path, body, max(0.05, ends - began)), daemon=True, name="llm-request"
        )
        work.start()
        try:
            while not exchange.done.wait(max(0.0, min(TICK, ends - time.monotonic()))):
                on_tick(False)
                if time.monotonic() >= ends:
                    break
        finally:
            exchange.left = True
        late = not exchange.done.is_set()
        arrived = b"".join(list(exchange.chunks))
        if exchange.status and (arrived or not (late or exchange.error)):
            return Arrived(
                exchange.status, exchange.headers, arrived, not (late or exchange.error or exchange.cut), late
            )
        if late or type(exchange.error).__name__.endswith("Timeout"):
            if until is not None and time.monotonic() >= until:
                raise TooLate
            raise TimedOut
        error = exchange.error
        raise Broken(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _run(self, exchange: _Exchange, path: str, body: Any, seconds: float) -> None:
        """The thread: read until the end, the limit, or until nobody waits any more."""
        import httpx2

        try:
            content = None if body is None else json.dumps(body).encode()
            with (
                httpx2.Client(
                    timeout=httpx2.Timeout(seconds + 1), verify=_certificates() if self._secure else False,
                    trust_env=not self.local,
                ) as client,
                client.stream(
                    "GET" if body is None else "POST", self.base_url + path, content=content, headers=self.headers
                ) as response,
            ):  # fmt: skip
                exchange.headers, exchange.status = dict(response.headers), response.status_code
                size = 0
                tail = b""
                for chunk in response.iter_bytes():
                    exchange.chunks.append(chunk[: MAX_ANSWER_BYTES - size])
                    size += len(chunk)
                    tail = (tail + chunk)[-64:]
                    if size > MAX_ANSWER_BYTES:
                        exchange.cut = True
                    if exchange.cut or exchange.left or b"data: [DONE]" in tail:
                        break
        except Exception as error:  # told to the waiting thread, which says what it means
            exchange.error = error
        finally:
            exchange.done.set()

    @property
    def _secure(self) -> bool:
        return self.base_url.startswith("https")


@lru_cache(maxsize=1)
def _certificates() -> Any:
    import httpx2

    return httpx2.create_ssl_context()
