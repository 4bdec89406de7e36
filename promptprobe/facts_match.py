"""Which mentions of a rewrite stand for a thing of the prompt.

Comes in: a `Thing` and a reading. Goes out: indexes of mentions, the best described first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .facts import Fact, Thing
from .facts_reading import Mention, Reading, joined
from .facts_words import known_words, same_kind

KEPT, UNSURE, LOST = "kept", "unsure", "lost"


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    verdict: str
    reason: str = ""


@dataclass
class Context:
    """What was asked for besides the fact at hand: to see that something moved to another thing, or was replaced."""

    things: list[Thing] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    words: set[str] = field(default_factory=set)  # of the original


def matches(thing: Thing, given: Reading, loosely: bool = True) -> list[int]:
    """Where a rewrite names this thing: exact matches, the best described first; else kinds of it."""
    exact = sorted({i for form in joined(thing.head, thing.of) for i in given.forms.get(form, ())})
    if exact or not loosely:
        return sorted(exact, key=lambda i: -likeness(thing, given.mentions[i]))
    return [i for i, m in enumerate(given.mentions) if not m.negated and same_kind(thing.head, m.head)]


def fits(thing: Thing, mention: Mention) -> int:
    """2 where a mention names the thing, 1 where it names a kind of it or what it is a kind of, else 0."""
    if thing.head == mention.head or joined(thing.head, thing.of) & joined(mention.head, mention.of) - {""}:
        return 2
    return 1 if same_kind(thing.head, mention.head) else 0


def fits_each(one: Thing, other: Thing) -> bool:
    """Could the two be the same thing?"""
    return one.head == other.head or same_kind(one.head, other.head)


def likeness(thing: Thing, mention: Mention) -> float:
    score = 2.0 * len({v for _, v in thing.attributes} & mention.values()) + len(set(thing.of) & set(mention.of))
    score += 0.5 * (thing.count is not None and thing.count == mention.count) - 0.5 * mention.part_of_count
    words = known_words()
    for name, value in thing.attributes:
        for other_name, other in mention.attributes:
            if other != value and (
                (name == other_name and name in words.exclusive) or (value, other) in words.opposites
            ):
                score -= 1.5 * (other not in {v for _, v in thing.attributes})
    return score


def meets(some: Iterable[int], others: Iterable[int]) -> bool:
    return not set(some).isdisjoint(others)


def thing_of(fact: Fact) -> Thing:
    return fact.thing or Thing(fact.value)


_COLLECTIVES = {"range", "chain", "cluster", "patch", "field", "formation", "landscape", "scene"}  # "mountain range"


def is_collected(thing: Thing, given: Reading) -> bool:
    """Is what a "mountain range" consists of there, in other words?"""
    return thing.head in _COLLECTIVES and any({m.head, *m.of} & set(thing.of) for m in given.things())


def holds(word: str, head: str) -> bool:
    """Is `head` a part of the closed compound `word`: tea and cup of teacup, sun of sunlight?"""
    if len(head) > 3 and word.endswith(head):
        return True
    rest = word.removesuffix(head) if word.endswith(head) else word.removeprefix(head)
    return len(head) > 2 and len(rest) > 2 and rest != word and rest in known_words().nouns


def parted(word: str) -> list[str]:
    """The two nouns of a closed compound, "cornfield"."""
    nouns = known_words().nouns
    cuts = (i for i in range(3, len(word) - 2) if word[:i] in nouns and word[i:] in nouns)
    return next(([word[:i], word[i:]] for i in cuts), [])
