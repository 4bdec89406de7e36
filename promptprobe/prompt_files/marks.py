"""The marks of a list: numbers, bullets, quotes around every line. They are the list's, not the prompts'.

Comes in: lines. Goes out: the lines without the marks that at least half of them have, and a note with the count.
"""

from __future__ import annotations

import re

from .flags import is_options
from .rows import Notes

_MARKS = {
    "numbers": re.compile(r"\s*(?:\d{1,6}[.):]|\(\d{1,6}\)|\[\d{1,6}\])\s+(?=\S)"),
    "bullets": re.compile(r"\s*[-*+•‣▪●○◦·–—]\s+(?:\[[ xX]\]\s+)?(?=\S)"),
}
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "`": "`", "「": "」"}


def without_marks(lines: list[str], notes: Notes) -> list[str]:
    """First a number or bullet goes, then quotes: `1. "a cat",` is a cat."""
    for name, mark in _MARKS.items():
        lines = _without(
            lines, [line[found.end() :] if (found := mark.match(line)) else None for line in lines], name, notes
        )
    return _without(lines, [_unquoted(line) for line in lines], "quotes", notes)


def _without(lines: list[str], bare: list[str | None], name: str, notes: Notes) -> list[str]:
    count = sum(line is not None for line in bare)
    if not count or 2 * count < sum(bool(line.strip()) for line in lines):
        return lines
    notes.say(f"read as a list: the {name} of {count} line{'s' * (count > 1)} were left out of the prompts")
    return [line if text is None else text for line, text in zip(lines, bare, strict=True)]


def _unquoted(line: str) -> str | None:
    """What stands inside of quotes around a whole line; None where there are none, or others of the kind inside."""
    text = line.strip().rstrip(",;").rstrip()
    begin = text[:1]
    if len(text) < 3 or _QUOTES.get(begin) != text[-1] or is_options(line):
        return None
    inner = text[1:-1]
    if begin == '"':  # written twice, or with a backslash
        inner = re.sub(r'\\"|""', "\0", inner)
    inside = re.sub(r"(?<=\w)'(?=\w)", "", inner)  # an apostrophe
    return None if begin in inside or text[-1] in inside else inner.replace("\0", '"')
