"""One fact against the reading of a rewrite: kept, unsure or lost, with the reason in words.

"Lost" is said only where code is sure: the thing, number or text is gone, another stands in its place, or what belonged
to one thing belongs to another. What is merely not found again is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping

from .facts import Fact
from .facts_deeds import check_action
from .facts_match import KEPT, LOST, UNSURE, Context, Finding
from .facts_parser import read
from .facts_reading import Reading
from .facts_relations import check_place, check_relation
from .facts_text import has_text, numbers_in, surface
from .facts_things import check_absence, check_attribute, check_count, check_object, check_style


def check(fact: Fact, rewrite: str, thesaurus: Mapping[str, str] | None = None) -> Finding:
    """Is `fact` still in `rewrite`? In a language that can't be read, only texts, names and numbers are looked for."""
    return check_reading(fact, read(rewrite, thesaurus), rewrite, Context())


def check_reading(fact: Fact, given: Reading, rewrite: str, context: Context) -> Finding:
    """`check` for a rewrite that has been read."""
    if fact.kind in _ON_TEXT:
        return _ON_TEXT[fact.kind](fact, rewrite)
    if given.surface.language != "english":
        return Finding(UNSURE, f"{fact.text}: the rewrite can't be read ({given.surface.language})")
    return _ON_READING[fact.kind](fact, given, context)


def _text(fact: Fact, rewrite: str) -> Finding:
    return Finding(KEPT) if has_text(fact.value, rewrite) else Finding(LOST, f'text "{fact.value}"')


def _name(fact: Fact, rewrite: str) -> Finding:
    return Finding(KEPT) if fact.value.casefold() in rewrite.casefold() else Finding(LOST, f"name {fact.value}")


def _code(fact: Fact, rewrite: str) -> Finding:
    return Finding(KEPT) if fact.value.casefold() in rewrite.casefold() else Finding(LOST, f"word {fact.value}")


def _number(fact: Fact, rewrite: str) -> Finding:
    wanted, given = int(fact.value), numbers_in(surface(rewrite).text)
    return Finding(KEPT) if wanted in given else Finding(LOST, f"number {wanted}")


def _tag(fact: Fact, rewrite: str) -> Finding:
    return Finding(KEPT) if fact.value.casefold() in rewrite.casefold() else Finding(UNSURE, f"{fact.value} is gone")


_ON_TEXT = {"text": _text, "name": _name, "code": _code, "number": _number, "tag": _tag}


_ON_READING = {
    "object": check_object, "count": check_count, "attribute": check_attribute, "relation": check_relation, "action": check_action, "place": check_place,
    "absence": check_absence, "style": check_style,
}  # fmt: skip
