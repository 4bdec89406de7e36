"""Which pictures the terminal understands: it is asked once, patiently, and only where its answers can be read.

The library that draws asks on its own, but it waits a tenth of a second: what a terminal answers later, over a slow
line, would be typed into the next command. Each question here ends with one that every terminal answers.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

PATIENCE = 2.0  # seconds until a terminal is taken for one that doesn't answer
_ATTRIBUTES = "\x1b[c"  # what every terminal answers, after all that was asked before it
_NAME = "\x1b[>0q"
_CELL = "\x1b[16t"
_ANSWER = re.compile(rb"\x1b\[\?([0-9;]*)c")
_NAMED = re.compile(rb"\x1bP>\|(kitty|ghostty)[ (]([0-9]{1,3})\.([0-9]{1,3})")
_PLACED = {b"kitty": (0, 28), b"ghostty": (1, 0)}  # since when pictures stand among letters, as the library puts them
_DEFINED = re.compile(r"#([0-9]+);2;[0-9]+;[0-9]+;[0-9]+")
_MOST = 4096  # bytes of an answer
_known: list[Kind | None] = []


class Kind(NamedTuple):
    """How pictures are drawn: `draw` makes a picture what rich prints; `blocks` says that it is of coloured letters."""

    draw: Callable[..., Any]
    blocks: bool


def picture_kind() -> Kind | None:
    """How this terminal is drawn to: by sixel, kitty's protocol or half blocks. None where no library draws."""
    if _known:
        return _known[0]
    try:
        _known.append(_settled())
    except _TypedAhead:
        return _blocks()  # it is asked the next time
    return _known[0]


class _TypedAhead(Exception):
    """Something is typed that waits to be read: it would be taken for an answer."""


def _blocks() -> Kind:
    with _unasked():
        from textual_image.renderable import HalfcellImage
    return Kind(partial(HalfcellImage, height="auto"), True)


def _settled() -> Kind | None:
    with _unasked():
        try:
            from textual_image import _terminal
            from textual_image.renderable import SixelImage, TGPImage
        except (ImportError, OSError, RuntimeError):
            return None
    there = sys.__stdout__ is not None and sys.__stdout__.isatty()
    cell = _cell_of_window() if there else None
    answers = ask(_NAME if cell else _NAME + _CELL) if there else b""
    if told := re.search(rb"\x1b\[6;([0-9]{1,4});([0-9]{1,4})t", answers):
        cell = cell or (int(told[2]), int(told[1]))
    width, height = cell if cell and min(cell) > 0 else (10, 20)
    _terminal.get_cell_size._result = _terminal.CellSize(width, height)  # type: ignore[attr-defined]
    attributes, named = _ANSWER.search(answers), _NAMED.search(answers)
    if attributes and b"4" in attributes[1].split(b";"):
        return Kind(partial(_Chosen, SixelImage), False)
    if named and (int(named[2]), int(named[3])) >= _PLACED[named[1]]:
        return Kind(partial(TGPImage, height="auto"), False)
    return _blocks()


class _Chosen:
    """A sixel picture in which each colour that is defined is chosen, too: xterm goes on with another one otherwise."""

    def __init__(self, kind: Any, image: Any, width: int):
        self.made = kind(image, width=width, height="auto")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self.made.__rich_console__(console, options):
            if isinstance(part, Segment) and part.text.startswith("\x1bP"):
                part = part._replace(text=_DEFINED.sub(r"\g<0>#\1", part.text))
            yield part

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return self.made.__rich_measure__(console, options)


@contextlib.contextmanager
def _unasked() -> Iterator[None]:
    """The library asks nothing while it is imported."""
    kept = sys.__stdout__
    sys.__stdout__ = None  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        sys.__stdout__ = kept  # type: ignore[misc]


def _cell_of_window() -> tuple[int, int] | None:
    """Width and height of a letter in pixels, if the system knows the window's."""
    try:
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(sys.__stdout__, termios.TIOCGWINSZ, b"\0" * 8)  # type: ignore[arg-type]
    except (ImportError, OSError, ValueError):
        return None
    rows, columns, width, height = struct.unpack("4H", packed)
    return (width // columns, height // rows) if rows and columns and width >= columns and height >= rows else None


def ask(question: str) -> bytes:
    """What the terminal answers to a question and to that for its attributes; empty where it can't be asked.

    It can't where standard input is no terminal or belongs to another job. Raises `_TypedAhead` where keys wait to be read.
    """
    try:
        import termios
        import tty
    except ImportError:
        return b""
    if sys.__stdin__ is None or sys.__stdout__ is None:
        return b""
    try:
        keys = sys.__stdin__.fileno()
        if os.tcgetpgrp(keys) != os.getpgrp():
            return b""  # a job in the background would be stopped
        before = termios.tcgetattr(keys)
    except (OSError, ValueError, termios.error):
        return b""
    found = b""
    try:
        tty.setcbreak(keys, termios.TCSANOW)
        if select.select([keys], [], [], 0)[0]:
            raise _TypedAhead
        sys.__stdout__.write(question + _ATTRIBUTES)
        sys.__stdout__.flush()
        until = time.monotonic() + PATIENCE
        while not _ANSWER.search(found) and len(found) < _MOST:
            if not select.select([keys], [], [], max(0.0, until - time.monotonic()))[0]:
                break
            found += os.read(keys, 1024)
    finally:
        termios.tcsetattr(keys, termios.TCSANOW, before)
    return found
