"""JSON as language models write it: read with goodwill, in one pass.

Comes in: a text. Goes out: every object and list in it, with where it begins and ends. Forgiven are trailing and missing
commas, single and curly quotes, quotes inside strings, bare words, comments, Python's None, raw line breaks, and an end
that is missing: a string that is cut off is left out, everything complete before it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MAX_NESTING = 40

_BLANK = re.compile(r"(?:[\s,]+|//[^\n]*|/\*.*?(?:\*/|\Z)|\#[^\n]*)*", re.S)
_CLOSING = {'"': '"', "'": "'", "“": "”", "”": "”", "‘": "’", "„": "“", "«": "»", "`": "`"}
_UP_TO = {q: re.compile(rf"(?:[^\\{q}]|\\.)*", re.S) for q in set(_CLOSING.values())}
_BARE = re.compile(r"[^\s,:{}\[\]\"'“”]+(?:[^\n,:{}\[\]\"“”]*[^\s,:{}\[\]\"“”])?")
_ENDS_STRING = re.compile(r"\s{0,40}(?:[}\]]|\Z|//|/\*|\n)")
_NEXT_KEY = re.compile(
    r"\s{0,40}(?:,\s{0,40}(?:[}\]#]|\Z|//|/\*|[\w -]{1,40}:)|,?\s{0,40}[\"'“][\w -]{1,40}[\"'”]\s{0,10}:)"
)
_NEXT_ENTRY = re.compile(r"\s{0,40},\s{0,40}(?:[\"'“{}\[\]\d#]|\Z|//|/\*)")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "undefined": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

_CUT = object()


def loose_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Begin, end and value of every object and list, each read once; what holds nothing is passed over."""
    at = 0
    while (at := _next_start(text, at)) >= 0:
        reader = _Reader(text, at)
        value = reader.value(0, False)
        if value is not _CUT and value:
            yield at, reader.at, value
        at = max(reader.at, at + 1)


def _next_start(text: str, at: int) -> int:
    match = re.compile(r"[{\[]").search(text, at)
    return match.start() if match else -1


class _Reader:
    """A place in a text; `stopped` says that what follows can't be read, and ends everything that is open."""

    def __init__(self, text: str, at: int):
        self.text, self.at, self.stopped = text, at, False

    def value(self, depth: int, in_object: bool) -> Any:
        c = self.text[self.at : self.at + 1]
        if c in ("{", "["):
            self.at += 1
            if depth >= MAX_NESTING:
                self.stopped = True
                return _CUT
            return self.object(depth) if c == "{" else self.list(depth)
        if c in _CLOSING and c:
            return self.string(_CLOSING[c], in_object)
        bare = _BARE.match(self.text, self.at)
        if not bare:
            self.stopped = True
            return _CUT
        self.at = bare.end()
        word = bare.group().strip()
        return _WORDS.get(word.lower(), word)

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.stopped:
            self.blank()
            if self.peek() in ("}", "", "]"):
                self.at += self.peek() == "}"
                break
            key = self.key()
            self.blank()
            if key is _CUT or self.peek() not in (":", "="):
                self.stopped = True
                break
            self.at += 1
            self.blank()
            if self.peek() in ("}", ""):
                continue
            value = self.value(depth + 1, True)
            if value is not _CUT:
                found[str(key)] = value
        return found

    def list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self.stopped:
            self.blank()
            if self.peek() in ("]", "", "}"):
                self.at += self.peek() == "]"
                break
            quoted = self.peek() in _CLOSING
            value = self.value(depth + 1, False)
            if value is not _CUT and (quoted or not isinstance(value, str)):  # [bare words] are prose
                found.append(value)
        return found

    def key(self) -> Any:
        c = self.peek()
        if c in _CLOSING:
            close = _CLOSING[c]
            end = self.text.find(close, self.at + 1, self.at + 200)
            if end < 0:
                return _CUT
            key, self.at = self.text[self.at + 1 : end], end + 1
            return key
        bare = re.compile(r"[\w $-]{1,60}").match(self.text, self.at)
        if not bare:
            return _CUT
        self.at = bare.end()
        return bare.group().strip()

    def string(self, close: str, in_object: bool) -> Any:
        """A string; a quotation mark ends it only where something that may follow a string follows."""
        begin = self.at = self.at + 1
        goes_on = _NEXT_KEY if in_object else _NEXT_ENTRY
        while True:
            self.at = _UP_TO[close].match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.peek() != close:
                self.at, self.stopped = len(self.text), True
                return _CUT
            self.at += 1
            if _ENDS_STRING.match(self.text, self.at) or goes_on.match(self.text, self.at):
                return _unescaped(self.text[begin : self.at - 1])

    def blank(self) -> None:
        self.at = _BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    text = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", character, text, flags=re.S)
    # Halves of a pair, written as two escapes, are one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text
