"""Expand templates: every combination of `{a|b}` and `__wildcard__`, and nothing else.

Comes in: prompts or rows. Goes out: the same with their templates expanded. `#`, `%`, `$`, braces without a choice and
underscores that enclose no name stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, reason_of
from ..text import clean_prompt
from .rows import PromptRow

MAX_EXPANDED = 100_000
MAX_NESTED = 10  # choices inside choices; the library's parser takes twice the time for each
# What the library would take for its own goes through it as letters of private use.
_OWN = "#%$@~!{}|_"
_LETTERS = {c: chr(0xF8D0 + i) for i, c in enumerate(_OWN)}
_BACK = str.maketrans({v: k for k, v in _LETTERS.items()})
_MANY = re.compile(r"\s*[@~!]?\s*(?:\d+(?:-\d*)?|-\d+)\$\$(?:[^${}]*\$\$)?")  # two of them: {2$$a|b}, {2$$ and $$a|b}
_WILDCARD = re.compile(r"__[^_\s{}|$#()](?:[^_\s{}|$#()]|_(?!_))*__")


def expand(prompts: list[str], wildcards: Path | None = None) -> list[str]:
    """Every combination of `{a|b}` and `__wildcard__`, by the dynamicprompts library; each result once.

    Raises `InputError` when the library is not installed, a template is broken or too many prompts come out.
    """
    generate = _generator(wildcards)
    result: dict[str, None] = {}
    for template in prompts:
        result |= dict.fromkeys(generate(template, MAX_EXPANDED - len(result) + 1))
        _check(len(result))
    return list(result)


def expand_rows(rows: Sequence[PromptRow], wildcards: Path | None = None) -> list[PromptRow]:
    """The rows of all combinations: ids get .1, .2, ... where a template makes several, columns and settings travel.

    Raises `InputError` as `expand` does.
    """
    generate = _generator(wildcards)
    result: list[PromptRow] = []
    first: dict[str, str] = {}
    for row in rows:
        made = list(dict.fromkeys(generate(row.prompt, MAX_EXPANDED + 1)))
        _check(len(first) + sum(p not in first for p in made))
        for n, prompt in enumerate(made, 1):
            name = f"{row.id}.{n}" if len(made) > 1 else row.id
            result.append(replace(row, prompt=prompt, id=name, repeats=first.get(prompt)))
            first.setdefault(prompt, name)
    return result


def _check(count: int) -> None:
    if count > MAX_EXPANDED:
        raise InputError(f"the templates make more than {MAX_EXPANDED} prompts; give fewer choices")


def _generator(wildcards: Path | None) -> Callable[[str, int], Iterable[str]]:
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
        from dynamicprompts.wildcards.values import WildcardValues
    except ImportError as error:
        raise InputError("--expand needs the dynamicprompts library: pip install 'promptprobe[batch]'") from error
    if wildcards is not None and not Path(wildcards).is_dir():
        raise InputError(f"--wildcards {str(wildcards)!r} is no folder; give the one that holds the wildcard files")

    class Manager(WildcardManager):
        """Wildcards whose values are templates of ours too."""

        def get_values(self, wildcard: str) -> WildcardValues:
            values = super().get_values(wildcard.translate(_BACK))
            return WildcardValues.from_items([_shielded(v) for v in values.string_values])

    generator = CombinatorialPromptGenerator(wildcard_manager=Manager(wildcards))

    def generate(template: str, most: int) -> Iterable[str]:
        if "{" not in template and "__" not in template:
            return [clean_prompt(template)]
        try:
            made = generator.generate(_shielded(template), max_prompts=most)
        except InputError:
            raise
        except Exception as error:  # the library's parser has its own classes
            raise InputError(
                f"prompt {template[:80]!r} can't be expanded: {reason_of(error)}; correct its choices"
            ) from error
        return [clean_prompt(text) for m in made if (text := m.translate(_BACK)).strip()]

    return generate


def _shielded(template: str) -> str:
    """A template in which only choices and wildcards are the library's; raises `InputError` for too many nested choices."""
    kept = {i for m in _WILDCARD.finditer(template) for i in (m.start(), m.start() + 1, m.end() - 2, m.end() - 1)}
    for start, end, bars in _pairs(template):
        many = _MANY.match(template, start + 1, end)
        if bars or many:
            kept |= {start, end, *bars, *(range(start + 1, many.end()) if many else ())}
    depth = 0
    for i in sorted(kept):
        depth += (template[i] == "{") - (template[i] == "}")
        if depth > MAX_NESTED:
            raise InputError(f"prompt {template[:80]!r} has choices nested more than {MAX_NESTED} deep; write fewer")
    return "".join(c if i in kept else _LETTERS.get(c, c) for i, c in enumerate(template))


def _pairs(template: str) -> list[tuple[int, int, list[int]]]:
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
