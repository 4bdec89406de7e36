"""What reading a prompt file gives, its limits, and the notes that are taken on the way."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InputError

MAX_BYTES = 256 * 2**20  # of a file
MAX_LINE = 16 * 2**20  # characters of a line or record
MAX_PROMPTS = 1_000_000  # of a file
MAX_DEPTH = 32  # levels of a column's own lists and objects
COLUMNS = (
    "prompt", "caption", "text", "prompts", "captions", "positive_prompt", "positive prompt", "positive", "sentence",
    "description", "parameters",
)  # fmt: skip
IDS = (
    "id", "prompt_id", "uid", "uuid", "key", "image_id", "row_id", "index", "image_name", "file_name", "filename", "image_path",
    "image",
)  # fmt: skip
_ID_NAMES = frozenset(IDS)
_NAMED_SO = re.compile(r"\b(?:prompt|caption)\b")  # "Prompt text", "image prompt", the only one
_NOT_IT = re.compile(r"negative|\bid\b|length|count|number|score|tokens|hash|lang|type|date|time|source")
_NAMED = 10  # bad lines that are named one by one


@dataclass(frozen=True)
class PromptRow:
    """A prompt of a file. `line` counts from 1: lines of text, or items of a JSON list.

    `id` is the file's own, or the line. `columns` are its other columns, `settings` what flags beside the prompt say
    (negative, seed, steps, guidance, width, height, aspect, sampler). `repeats` is the id of the first row with the
    same prompt.
    """

    prompt: str
    line: int
    id: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    repeats: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)


@dataclass
class PromptFile:
    """`rows` in the file's order, repeats too; `notes` for people; `left_out` counts what could not be read.

    `unit` says what a row's `line` counts: lines, or items of a list.
    """

    rows: list[PromptRow]
    notes: list[str] = field(default_factory=list)
    left_out: int = 0
    unit: str = "line"

    @property
    def prompts(self) -> list[str]:
        """Every prompt once, in the file's order."""
        return [row.prompt for row in self.rows if row.repeats is None]


@dataclass
class Found:
    """What a reader gives: `value` is what stands where the prompt should be."""

    line: int
    value: Any
    id: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


class Notes:
    """Takes notes while a file is read; `lines` gives them, with the lines of one kind together."""

    def __init__(self, path: str, unit: str = "line") -> None:
        self.path, self.unit = path, unit
        self.bad: list[tuple[str, int, str]] = []
        self.bad_count = 0
        self._said: dict[str, None] = {}
        self._counted: dict[str, list[Any]] = {}  # text -> [first places, count]
        self.taken: Counter[str] = Counter()

    def say(self, text: str) -> None:
        self._said[text] = None

    def count(self, text: str, line: int) -> None:
        """A thing that may happen in many lines: `text` is said once, behind the places."""
        places = self._counted.setdefault(text, [[], 0])
        places[1] += 1
        if len(places[0]) < 5:
            places[0].append((self.unit, line))

    def left_out(self, line: int, reason: str) -> None:
        """A line that can't be used, with the reason and the remedy."""
        self.bad_count += 1
        if len(self.bad) < _NAMED:
            self.bad.append((self.unit, line, reason))

    def lines(self) -> list[str]:
        result = list(self._said)
        if self.taken:
            names = ", ".join(
                f"{_shown(name)!r} ({n})" if len(self.taken) > 1 else repr(_shown(name))
                for name, n in self.taken.most_common(8)
            )
            result.append(f"prompts were taken from {names}; --column takes another")
        for text, (places, n) in self._counted.items():
            result.append(f"{_places(places, n)}: {text}")
        result += [f"{self.path!r}, {unit} {line} was left out: {reason}" for unit, line, reason in self.bad]
        if self.bad_count > len(self.bad):
            result.append(
                f"{self.path!r}: {self.bad_count - len(self.bad)} more were left out, {self.bad_count} in all"
            )
        return result

    def nothing(self) -> InputError:
        """The error of a file in which no prompt was found."""
        if not self.bad:
            return InputError(f"{self.path!r} has no prompt; give one a line, or a column named prompt")
        unit, line, reason = self.bad[0]
        more = f" ({self.bad_count - 1} more like this)" if self.bad_count > 1 else ""
        return InputError(f"{self.path!r}, {unit} {line}: {reason}{more}")


def _places(places: Iterable[tuple[str, int]], count: int) -> str:
    places = list(places)
    unit = places[0][0] + ("s" if count > 1 else "")
    numbers = ", ".join(str(line) for _, line in places)
    return f"{unit} {numbers}" + (f" and {count - len(places)} more" if count > len(places) else "")


def choose(names: Iterable[str], column: str | None, more: tuple[str, ...] = ()) -> str | None:
    """The name of the column that holds the prompts: `column`, else the first of `COLUMNS`; None when it isn't there."""
    lower = {n.strip().lower(): n for n in reversed(list(names))}
    for wanted in [column] if column else [*COLUMNS, *more]:
        if (key := wanted.strip().lower()) in lower:
            return lower[key]
    named = [] if column else [n for n in lower if _NAMED_SO.search(n) and not _NOT_IT.search(n)]
    return lower[named[0]] if len(named) == 1 else None


def no_column(names: Iterable[str], column: str | None, what: str) -> str:
    """Why no column could be chosen, and the remedy."""
    wanted = repr(column) if column else "prompt, caption or text"
    given = ", ".join(_shown(n) for n in list(names)[:20])[:200]
    return f"there is no {wanted}; its {what} are: {given}; name one with --column"


def _shown(name: str) -> str:
    """A column's name in a line: without controls, at most 40 characters."""
    name = "".join(c if c.isprintable() else " " for c in name[:41])
    return name if len(name) <= 40 else name[:39] + "…"


def id_of(columns: Mapping[str, Any]) -> str | None:
    """The row's own id, from the first column that has the name of one."""
    given = {n.lower(): v for n, v in columns.items() if n.lower() in _ID_NAMES}
    for name in IDS if given else ():
        value = given.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()[:500]
    return None


def plain(value: Any) -> Any:
    """A column's value as JSON can write it again: no half surrogates, no infinite numbers, not too deep (None then)."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, (dict, list)):
        return value
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [v for x in level if isinstance(x, (dict, list)) for v in (x.values() if isinstance(x, dict) else x)]
        if not level:
            return _plain_inside(value)
    return None


def _plain_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain_text(k): _plain_inside(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain_inside(v) for v in value]
    return plain(value)


def plain_text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")
