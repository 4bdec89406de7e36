"""Text as people give it, in any script: clean it, and find its words.

Comes in: a prompt. Goes out: one line without controls, and the places of its words. No word is cut inside a letter with
its marks, inside a joined emoji or at a joiner (U+200C, U+200D).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import regex

from .errors import InputError

MAX_CHARACTERS = 10_000  # of a prompt, wherever it comes from
BLANKED = "control characters"
_CONTROLS = regex.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
UNPRINTABLE = regex.compile(r"(?V1)[[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]--[\u200c\u200d\u00ad]]")
_HALVES = regex.compile("[\ud800-\udfff]")
_UNSEEN = regex.compile(r"\ufeff")  # a byte order mark in the middle of a text
# A word: letters with their marks and joiners, digits; apostrophes and hyphens between them; an emoji; a key cap.
_JOINED = r"[\p{L}\p{N}\p{Pc}][\p{L}\p{M}\p{N}\p{Pc}\u200c\u200d\u00ad]*"
_WORD = regex.compile(
    rf"(?V1)(?=[\p{{Extended_Pictographic}}\p{{Regional_Indicator}}--[©®™]])\X|[#*]\ufe0f?\u20e3|{_JOINED}(?:['’‐‑\-·׳״]{_JOINED})*"
)
# Chinese and Japanese write no spaces: Han by the tokenizer's pieces, Katakana and Hiragana in runs, all else together.
_HAN = r"\p{scx=Han}\p{M}*"
_KANA = r"\p{Script=Katakana}[\p{scx=Katakana}\p{M}]*|\p{Script=Hiragana}[\p{scx=Hiragana}\p{M}]*"
_PART = regex.compile(rf"(?:{_HAN})+|{_KANA}|(?:(?!\p{{scx=Han}}|\p{{Script=Katakana}}|\p{{Script=Hiragana}}).)+")
_UNSPACED = regex.compile(r"\p{scx=Han}|\p{Script=Katakana}|\p{Script=Hiragana}")
_CHARACTER = regex.compile(_HAN)


def clean_prompt(prompt: str) -> str:
    """The prompt in one line: control characters and runs of blanks become one blank, both ends are trimmed.

    Raises `InputError` for an empty or blank prompt and for one with half of a surrogate pair.
    """
    if not isinstance(prompt, str):
        raise InputError(f"prompt is {prompt!r:.80}; it must be text")
    text = " ".join(_UNSEEN.sub("", _CONTROLS.sub(" ", whole_pairs(prompt))).split())
    if not text:
        raise InputError("the prompt is empty; give at least one word")
    return text


def clean_prompts(prompts: Iterable[str]) -> list[str]:
    """Each prompt as `clean_prompt` has it; raises `InputError` for anything else than a list of texts, too."""
    if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Iterable):
        raise InputError(f"prompts is {prompts!r:.80}; give a list of texts")
    return [clean_prompt(p) for p in prompts]


def printable(text: str, most: int = 2000) -> str:
    """At most `most` characters of a foreign text for a terminal: what moves its cursor, turns its direction or is half a
    character stands as its escape, such as \\x1b."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], cut)


def has_controls(text: str) -> bool:
    """Whether `clean_prompt` makes blanks of characters such as NUL."""
    return _CONTROLS.search(text) is not None


def whole_pairs(text: str, name: str = "the prompt") -> str:
    """The text with surrogate pairs made into the characters that they stand for.

    Raises `InputError` for half a pair: no tokenizer, file or terminal can take it.
    """
    if not _HALVES.search(text):
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        place = error.start // 2
        half = ascii(
            text.encode("utf-16-le", "surrogatepass")[error.start : error.start + 2].decode(
                "utf-16-le", "surrogatepass"
            )
        )
        raise InputError(
            f"{name} has half of a surrogate pair, {half}, at character {place + 1}: a broken emoji or bytes that "
            "are no UTF-8; type it anew"
        ) from error


def check_text(text: Any, name: str) -> None:
    """Raise `InputError` for what is no text, too long, or has half of a surrogate pair."""
    if not isinstance(text, str):
        raise InputError(f"{name} is {text!r:.80}; it must be text")
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} are taken")
    whole_pairs(text, name)


def find_words(prompt: str, pieces: Collection[int] | None = None) -> list[tuple[int, int]]:
    """Start and end of every word of a prompt.

    `pieces` are places where a token begins: Han characters are kept together within a token (every character is a
    word when it is None). Thai and other scripts that write no spaces are words from space to space.
    """
    found: list[tuple[int, int]] = []
    for match in _WORD.finditer(prompt):
        start, end = match.span()
        if not _UNSPACED.search(prompt, start, end):
            found.append((start, end))
            continue
        for part in _PART.finditer(prompt, start, end):
            found += _within(prompt, part.start(), part.end(), pieces)
    return found


def clusters(text: str) -> list[str]:
    """The text in what people see as characters: a letter with its marks, a joined emoji."""
    return regex.findall(r"\X", text)


def _within(prompt: str, start: int, end: int, pieces: Collection[int] | None) -> list[tuple[int, int]]:
    if not regex.match(r"\p{scx=Han}", prompt[start]) or regex.match(
        r"\p{Script=Katakana}|\p{Script=Hiragana}", prompt[start]
    ):
        while start < end and prompt[start] in "'’‐‑-·׳״":
            start += 1
        while start < end and prompt[end - 1] in "'’‐‑-·׳״":
            end -= 1
        return [(start, end)] if start < end else []
    cuts = [m.start() for m in _CHARACTER.finditer(prompt, start, end)]
    cuts = [c for c in cuts if c == start or pieces is None or c in pieces]
    return list(zip(cuts, [*cuts[1:], end], strict=True))
