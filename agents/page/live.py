"""What happens, for browsers that listen: a bounded list of numbered events, from which everyone reads at their own pace.

Nobody who tells waits for anybody who listens. Who was away reads on from the last number that they had; who was away for
too long, or comes from another start of the server, is told to fetch the state anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

KEPT = 500  # events
BEAT = 10.0  # seconds between signs of life, by which a closed connection is noticed
WAIT = 0.5  # seconds between looks whether the server ends
RETRY = 1000  # milliseconds until a browser connects again


class Live:
    """Events of one session. `tell` may be called from any thread; `listen` gives server-sent events as text."""

    def __init__(self) -> None:
        self.start = secrets.token_hex(4)
        self._events: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._number = 0
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def tell(self, event: str, **values: Any) -> None:
        """Add an event for all who listen."""
        with self._lock:
            self._number += 1
            data = json.dumps({"event": event, **values}, ensure_ascii=False)
            text = f"id: {self.start}-{self._number}\ndata: {data}\n\n"
            self._events.append((self._number, text))
            waiting = list(self._waiting.items())
        for woken, loop in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

    async def listen(self, last_id: str | None, ending: Callable[[], bool] = lambda: False) -> AsyncIterator[str]:
        """Events after `last_id` (without one: those from now on), then those to come, until the listener is gone or the
        server is `ending`."""
        woken, told = asyncio.Event(), time.monotonic()
        with self._lock:
            self._waiting[woken] = asyncio.get_running_loop()
            at, anew = self._from(last_id)
        try:
            yield f"retry: {RETRY}\n\n"
            if anew:
                yield self._anew(at)
            while not ending():
                woken.clear()
                with self._lock:
                    oldest = self._events[0][0] if self._events else self._number + 1
                    lost = at + 1 < oldest
                    texts = [] if lost else [text for number, text in self._events if number > at]
                    at = self._number
                if lost:
                    yield self._anew(at)
                elif texts:
                    yield "".join(texts)
                elif time.monotonic() - told > BEAT:
                    yield ": beat\n\n"
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(woken.wait(), WAIT)
                    continue
                told = time.monotonic()
        finally:
            with self._lock:
                self._waiting.pop(woken, None)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._waiting)

    def _anew(self, at: int) -> str:
        return f'id: {self.start}-{at}\ndata: {{"event": "anew"}}\n\n'

    def _from(self, last_id: str | None) -> tuple[int, bool]:
        """The number to go on from, and whether something was missed."""
        start, _, number = (last_id or "").partition("-")
        if not last_id:
            return self._number, False
        known = start == self.start and number.isdecimal() and int(number[:15]) <= self._number
        return (int(number), False) if known else (self._number, True)
