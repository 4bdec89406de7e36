"""The queue before a device: a call takes a place first, then its turns at computing, and is told at once when all is full.

Comes in: how many calls may wait. Goes out: places; while one has its turn, nobody else computes on the device. What the
turns took is measured, and says when to come again.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import PromptProbeError
from ..files import lock_file

LOOK = 0.1  # seconds between looks at whether a waiting call was given up
FIRST_GUESS = 5.0  # seconds of a call before one was measured
NEWEST = 0.3  # weight of the latest call in the mean of what calls take


class BusyError(PromptProbeError):
    """The queue is full, or another process keeps the device: `message` says which, `retry_after` in how many seconds a place
    may be free."""

    def __init__(self, message: str, retry_after: float = FIRST_GUESS):
        super().__init__(message)
        self.retry_after = retry_after


class CancelledError(PromptProbeError):
    """The caller gave up."""


def check_cancelled(cancel: threading.Event | None) -> None:
    """Raise `CancelledError` when a call was given up."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled by the caller")


class Place:
    """A call's place in the queue, from `Turns.place` until `leave`. `used` are the seconds that it had the device."""

    def __init__(self, turns: Turns, number: int):
        self.turns, self.number = turns, number
        self.used = 0.0
        self.began: float | None = None  # when its turn did, while it has one
        self.until = math.inf  # how long it waits for a turn, a time of `time.monotonic`
        self.cancel: threading.Event | None = None
        self.lock = contextlib.ExitStack()  # of the device, between processes
        self._open = True

    def check(self) -> None:
        """Raise `CancelledError` when the call was given up, `BusyError` when it has lost the device."""
        check_cancelled(self.cancel)
        if self.began is None:
            raise BusyError("busy: waited too long for the device; try again later")

    def leave(self) -> None:
        """Give the place to the next; once is enough."""
        if self._open:
            self._open = False
            self.turns.left(self)


class Turns:
    """Places for one running call and `waiting` more; the earliest call that wants the device gets it.

    `device` is asked for the device's name once a call has its first turn.
    """

    def __init__(self, waiting: int, device: Callable[[], str] = lambda: "cpu"):
        self.waiting, self.device = waiting, device
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._places: list[Place] = []
        self._wanting: list[int] = []
        self._holder: Place | None = None
        self._usual: float | None = None  # seconds of the device that a call takes

    def place(self) -> Place:
        """A place; raises `BusyError` at once when there is none. No thread is needed to be told so."""
        with self._changed:
            if len(self._places) > self.waiting:
                seconds = self._until_free()
                raise BusyError(
                    f"busy: {self.waiting + 1} calls are running or waiting; try again in {seconds:.0f} s", seconds
                )
            made = Place(self, next(self._numbers))
            self._places.append(made)
            return made

    def left(self, place: Place) -> None:
        """Take a place out of the queue, and what it used of the device into the mean."""
        with self._changed:
            self._places.remove(place)
            if place.used:
                old = place.used if self._usual is None else self._usual
                self._usual = (1 - NEWEST) * old + NEWEST * place.used

    def _until_free(self) -> float:
        """Seconds until the running call should be done, of what calls took so far."""
        holder = self._holder
        so_far = 0.0 if holder is None or holder.began is None else holder.used + time.monotonic() - holder.began
        if self._usual is None:
            return math.ceil(max(FIRST_GUESS, so_far))
        return max(1.0, math.ceil(self._usual - so_far))

    @contextlib.contextmanager
    def turn(self, place: Place, on_wait: Callable[[int], None] = lambda ahead: None) -> Iterator[None]:
        """The device, when nobody who came earlier wants it; `on_wait` is told how many calls are ahead.

        Raises `BusyError` when it is late, `CancelledError` when the call was given up.
        """
        self._take(place, on_wait)
        try:
            yield
        finally:
            self._give(place)

    @contextlib.contextmanager
    def away(self, place: Place) -> Iterator[None]:
        """Within a turn: the device is free for others while inside. Raises as `turn`, when it is taken again."""
        self._give(place)
        try:
            yield
        finally:
            self._take(place)

    def _take(self, place: Place, on_wait: Callable[[int], None] = lambda ahead: None) -> None:
        with self._changed:
            self._wanting.append(place.number)
            told = 0
            try:
                while self._holder is not None or min(self._wanting) != place.number:
                    ahead = sum(p.number < place.number for p in self._places)
                    if ahead and ahead != told:
                        on_wait(told := ahead)
                    self._changed.wait(LOOK)
                    check_cancelled(place.cancel)
                    if time.monotonic() > place.until:
                        raise BusyError("busy: waited too long for the device; try again later", self._until_free())
                check_cancelled(place.cancel)
                self._holder, place.began = place, time.monotonic()
            finally:
                self._wanting.remove(place.number)
                self._changed.notify_all()
        try:
            place.lock.enter_context(device_turn(self.device(), place.until - time.monotonic(), place.cancel))
        except BaseException:
            self._give(place)
            raise

    def _give(self, place: Place) -> None:
        place.lock.close()
        with self._changed:
            if self._holder is place and place.began is not None:  # else it could not be taken again
                place.used += time.monotonic() - place.began
                self._holder, place.began = None, None
                self._changed.notify_all()


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


@contextlib.contextmanager
def device_turn(device: str, patience: float, cancel: threading.Event | None = None) -> Iterator[None]:
    """While inside, no other process of this user computes on `device`; the CPU is shared.

    Raises `BusyError` after `patience` seconds.
    """
    if device.split(":")[0] == "cpu":
        yield
        return
    name = f"promptprobe-{_user()}-{device.replace(':', '-')}.lock"
    with (Path(tempfile.gettempdir()) / name).open("a") as file:
        until = time.monotonic() + patience
        while True:
            try:
                lock_file(file)
                break
            except OSError as error:
                check_cancelled(cancel)
                if time.monotonic() >= until:
                    raise BusyError(f"busy: another process is using {device}; stop it or try again later") from error
                time.sleep(LOOK)
        yield
