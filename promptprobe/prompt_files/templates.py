"""Expand templates: every combination of `{a|b}` and `__wildcard__`, and nothing else.

Comes in: prompts or rows. Goes out: the same with their templates expanded, and notes of wildcards without values. `#`,
`%`, `$`, braces without a choice and underscores that enclose no name stay as they are. What is computed is limited, not
only what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations, product
from pathlib import Path

from ..errors import InputError
from .rows import Notes, PromptRow
from .wildcards import Values, wildcard_values

MAX_EXPANDED = 100_000  # combinations that are computed for a file, repeats and parts of prompts too
MAX_WRITTEN = 30_000_000  # characters and pieces of them
_NAMED = 8  # wildcards without values
MAX_NESTED = 10  # choices inside choices, wildcards inside wildcards
# {2$$a|b}, {1-3$$ and $$a|b}: how many of the options, and what joins them
_MANY = re.compile(
    r"\s*[@~!]?\s*(?:(?P<low>\d+)(?P<range>-(?P<high>\d*))?|-(?P<most>\d+))\$\$(?:(?P<joint>[^${}]*)\$\$)?"
)
_WEIGHT = re.compile(r"\s*(?:[+-]?(?:\d+\.?\d*|\.\d+)\s*::)?\s*")  # {3::a|b}: the same combinations
_WILDCARD = re.compile(r"__([^_\s{}|$#()](?:[^_\s{}|$#()]|_(?!_))*)__")


@dataclass
class _Choice:
    """`{a|b}`: `low` to `high` of the options, joined by `joint`."""

    options: list[_Parts]
    low: int = 1
    high: int = 1
    joint: str = ","


@dataclass
class _Wildcard:
    name: str


_Parts = list["str | _Wildcard | _Choice"]  # one after another


def expand(prompts: list[str], wildcards: Path | None = None) -> list[str]:
    """Every combination of `{a|b}` and `__wildcard__`; each result once.

    Raises `InputError` when choices are nested too deep, too many combinations come out, or there are wildcards but not
    the dynamicprompts library, which reads them.
    """
    notes = Notes("prompts", "prompt")
    rows = [PromptRow(prompt, number, str(number)) for number, prompt in enumerate(prompts, 1)]
    return list(dict.fromkeys(row.prompt for row in expand_rows(rows, wildcards, notes)))


def expand_rows(
    rows: Sequence[PromptRow], wildcards: Path | None = None, notes: Notes | None = None
) -> list[PromptRow]:
    """The rows of all combinations: ids get .1, .2, ... where a template makes several, columns and settings travel.

    `notes`, with the file's path, gets what was left as it stands or left out. Raises `InputError` as `expand` does.
    """
    notes = notes or Notes("prompts")
    expander = _Expander(wildcard_values(wildcards, notes), notes)
    result: list[PromptRow] = []
    first: dict[str, str] = {}
    for row in rows:
        made = expander.made(row)
        for n, prompt in enumerate(made, 1):
            name = f"{row.id}.{n}" if len(made) > 1 else row.id
            result.append(replace(row, prompt=prompt, id=name, repeats=first.get(prompt)))
            first.setdefault(prompt, name)
    if rows and not result:
        raise notes.nothing()
    return result


class _Expander:
    """Makes the combinations of one row after another, within what a file may take."""

    def __init__(self, values: Values, notes: Notes) -> None:
        self.values, self.notes = values, notes
        self.known: dict[str, list[str]] = {}  # by wildcard
        self.open: list[str] = []  # wildcards that are being made
        self.missing: dict[str, None] = {}
        self.told: set[str] = set()  # of the missing ones, in this row
        self.count = self.written = 0
        self.row: PromptRow

    def made(self, row: PromptRow) -> list[str]:
        """The row's combinations, each once."""
        if "{" not in row.prompt and "__" not in row.prompt:
            return [row.prompt]
        self.row = row
        self.told.clear()
        parts = self.parsed(row.prompt)
        texts = (self.paid(text, len(parts)) for text in self.sequence(parts))
        made = dict.fromkeys(text for t in texts if (text := " ".join(t.split())))
        if not made:
            self.notes.left_out(row.line, "its template makes no prompt; give its choices other words")
        return list(made)

    def error(self, why: str) -> InputError:
        prompt = self.row.prompt if len(self.row.prompt) <= 80 else self.row.prompt[:79] + "…"
        return InputError(f"{self.notes.path!r}, {self.notes.unit} {self.row.line}: {prompt!r} {why}")

    def paid(self, text: str, pieces: int) -> str:
        """A text that was made of so many pieces, counted."""
        self.count += 1
        self.written += len(text) + pieces
        if self.count > MAX_EXPANDED or self.written > MAX_WRITTEN:
            most = f"{MAX_EXPANDED} combinations" if self.count > MAX_EXPANDED else f"{MAX_WRITTEN} characters"
            raise self.error(f"takes --expand to more than {most} in this file; give fewer choices, or split the file")
        return text

    def parsed(self, template: str) -> _Parts:
        choices = {start: (end, bars) for start, end, bars in _braces(template)}
        return self.parts(template, 0, len(template), choices, 0)

    def parts(self, text: str, start: int, end: int, choices: dict[int, tuple[int, list[int]]], depth: int) -> _Parts:
        """The literals, wildcards and choices between two places of a template."""
        found: _Parts = []
        literal = place = start
        while (place := text.find("{", place, end)) >= 0:
            close, bars = choices.get(place, (end, []))
            many = _MANY.match(text, place + 1, close) if close < end else None
            if bars or many:
                if depth == MAX_NESTED:
                    raise self.error(f"has choices nested more than {MAX_NESTED} deep; write fewer")
                found += _literals(text[literal:place])
                begin = many.end() if many else place + 1
                edges = [begin - 1, *(b for b in bars if b >= begin), close]
                options = [
                    self.parts(text, _WEIGHT.match(text, a + 1, b).end(), b, choices, depth + 1)  # type: ignore[union-attr]
                    for a, b in pairwise(edges)
                ]
                found.append(_choice(options, many))
                literal = place = close + 1
            else:
                place += 1
        return found + _literals(text[literal:end])

    def sequence(self, parts: _Parts) -> Iterator[str]:
        """Every combination of parts that stand one after another."""
        lists = [[part] if isinstance(part, str) else list(self.each(part)) for part in parts]
        return map("".join, product(*lists))

    def each(self, part: _Wildcard | _Choice) -> Iterator[str]:
        if isinstance(part, _Wildcard):
            yield from self.wildcard(part.name)
            return
        options = [self.option(option) for option in part.options]
        if len(part.options) == 1 and len(only := part.options[0]) == 1 and isinstance(only[0], _Wildcard):
            options = [[value] for value in options[0]]  # {2$$__thing__}: two of its values
        low, high = min(part.low, len(options)), min(part.high, len(options))
        if low == high == 1:
            for option in options:
                yield from option
            return
        for number in range(low, high + 1):
            for chosen in permutations(options, number):
                for combination in product(*chosen):
                    text = self.paid(part.joint.join(combination), number)
                    if len(set(combination)) == number:
                        yield text

    def option(self, parts: _Parts) -> list[str]:
        """Every combination inside a choice or a wildcard's value."""
        return [self.paid(text, len(parts)) if len(parts) > 1 else text for text in self.sequence(parts)]

    def wildcard(self, name: str) -> list[str]:
        if name not in self.known:
            if name in self.open or len(self.open) == MAX_NESTED:
                why = "holds itself" if name in self.open else f"is the end of {MAX_NESTED} that hold each other"
                raise self.error(f"can't be expanded: the wildcard __{name[:40]}__ {why}; correct its values")
            self.open.append(name)
            texts = [text for value in self.values(name) for text in self.option(self.parsed(value))]
            self.open.pop()
            if not texts:
                self.missing[name] = None
            self.known[name] = texts or [f"__{name}__"]
        if name in self.missing and name not in self.told:
            self.told.add(name)
            what = f"__{name[:40]}__ has" if name in [*self.missing][:_NAMED] else "more wildcards have"
            self.notes.count(
                f"{what} no values and stays as it stands; give its file in the folder of --wildcards", self.row.line
            )
        return self.known[name]


def _literals(text: str) -> _Parts:
    """A text without choices: its wildcards, and what stands between them."""
    found: _Parts = []
    place = 0
    for match in _WILDCARD.finditer(text):
        found += [text[place : match.start()], _Wildcard(match[1])]
        place = match.end()
    return [part for part in [*found, text[place:]] if part != ""]


def _choice(options: list[_Parts], many: re.Match[str] | None) -> _Choice:
    if many is None:
        return _Choice(options)
    joint = "," if many["joint"] is None else many["joint"]
    if many["most"]:
        return _Choice(options, 1, _number(many["most"]), joint)
    low = _number(many["low"])
    high = low if not many["range"] else _number(many["high"]) if many["high"] else len(options)
    return _Choice(options, min(low, high), max(low, high), joint)


def _number(digits: str) -> int:
    return int(digits[-9:]) if len(digits.lstrip("0")) <= 9 else 10**9


def _braces(template: str) -> list[tuple[int, int, list[int]]]:
    """Matching braces, with the places of the bars that stand directly between them."""
    found: list[tuple[int, int, list[int]]] = []
    open_ones: list[tuple[int, list[int]]] = []
    for i, c in enumerate(template):
        if c == "{":
            open_ones.append((i, []))
        elif c == "|" and open_ones:
            open_ones[-1][1].append(i)
        elif c == "}" and open_ones:
            start, bars = open_ones.pop()
            found.append((start, i, bars))
    return found
