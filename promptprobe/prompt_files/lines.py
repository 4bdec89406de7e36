"""Prompts of a text file, one a line; A1111's option lines; infotext, which takes several lines a prompt."""

from __future__ import annotations

from collections.abc import Iterator

from .decoding import split_lines
from .flags import is_info_line, is_options, read_infotext, read_options
from .marks import without_marks
from .rows import MAX_LINE, Found, Notes


def read_lines(text: str, column: str | None, notes: Notes) -> Iterator[Found]:
    """One prompt a line, without the marks of a list. Where a line is an infotext's last, the paragraph before it is one prompt."""
    lines = split_lines(text)
    if any(is_info_line(line) for line in lines):
        yield from _infotexts(lines, notes)
        return
    for number, line in enumerate(without_marks(lines, notes), 1):
        yield from _one(line, number, notes)


def _one(line: str, number: int, notes: Notes) -> Iterator[Found]:
    if len(line) > MAX_LINE:
        notes.left_out(number, f"it has {len(line)} characters; at most {MAX_LINE} are read: split it")
    elif is_options(line):
        parts = read_options(line)
        if parts.prompt is None:
            notes.left_out(number, 'options but no --prompt; write --prompt "..." on the same line')
        else:
            yield Found(number, parts.prompt, None, parts.others, parts.settings)
    else:
        yield Found(number, line)


def _infotexts(lines: list[str], notes: Notes) -> Iterator[Found]:
    """Infotexts and plain lines between them: a blank line ends a plain one, an infotext ends with its settings."""
    count = 0
    begin = 0  # of the paragraph
    ended = [i for i, line in enumerate(lines) if is_info_line(line)]
    for end in ended:
        start = _paragraph(lines, begin, end)
        for i in range(begin, start):
            yield from _one(lines[i], i + 1, notes)
        after = end + 1
        while after < len(lines) and lines[after].startswith(("Template:", "Negative Template:")):
            after += 1
        parts = read_infotext("\n".join(lines[start:after]))
        count += 1
        yield Found(start + 1, parts.prompt, None, parts.others, parts.settings)
        begin = after
    for i in range(begin, len(lines)):
        yield from _one(lines[i], i + 1, notes)
    notes.say(f"read as infotext: {count} prompts with settings (Negative prompt:, Steps: ...)")


def _paragraph(lines: list[str], begin: int, end: int) -> int:
    """Where the infotext that ends at `end` starts: after the last blank line before its prompt."""
    negative = next((i for i in range(begin, end) if lines[i].startswith("Negative prompt:")), end)
    start = negative
    while start > begin and lines[start - 1].strip():
        start -= 1
    return start
