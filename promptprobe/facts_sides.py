"""The two sides of a relation or deed in a rewrite: are they linked, and did another thing take one side's place?"""

from __future__ import annotations

from .facts import Fact, Thing
from .facts_match import Context, fits, fits_each, likeness, matches, meets
from .facts_reading import Reading
from .facts_words import same_verb

WEARING = {"wear", "hold", "carry", "have", "wield", "sport"}


def sides(fact: Fact, given: Reading) -> tuple[list[int], list[int]]:
    """Mentions that may stand for the two sides of a fact; of several of one name the best described."""
    lefts: list[int] = []
    for thing in ([fact.thing] if fact.thing else []) + list(fact.maybe):
        lefts += best_matches(thing, given)
    rights = best_matches(fact.other, given) if fact.other else []
    if fact.thing and not matches(fact.thing, given):
        return [], rights
    return lefts, rights


def best_matches(thing: Thing, given: Reading) -> list[int]:
    found = matches(thing, given)
    top = [i for i in found if likeness(thing, given.mentions[i]) == likeness(thing, given.mentions[found[0]])]
    return top


def told_for_sure(given: Reading, name: str, lefts: list[int], rights: list[int]) -> bool:
    return any(
        x.name == name and x.kind == "relation" and not x.negated and apart(x.lefts, x.rights, lefts, rights)
        for x in given.links
    )


def apart(one: list[int], other: list[int], lefts: list[int], rights: list[int]) -> bool:
    """Does `one` meet the lefts and `other` the rights, in two different mentions?"""
    return any(a != b for a in set(one) & set(lefts) for b in set(other) & set(rights))


def linked(given: Reading, lefts: list[int], rights: list[int], closely: bool = False) -> bool:
    for link in given.links:
        if closely and link.name in ("next", "left", "right", "front", "behind", "above", "below", "around", "between"):
            continue
        if not link.negated and (
            apart(link.left(), link.right(), lefts, rights) or apart(link.right(), link.left(), lefts, rights)
        ):
            return True
    return False


def taken_over(fact: Fact, given: Reading, context: Context, lefts: list[int], rights: list[int]) -> str:
    """The head of another wanted thing that has the place or the deed of `fact.thing` now, and had not in the prompt."""
    thing = fact.thing
    if thing is None:
        return ""
    for link in given.links:
        same = link.name == fact.value or (link.kind == "action" and same_verb(link.name, fact.value))
        same = same or (fact.value in {"with", *WEARING} and link.name in {"with", *WEARING})
        if not same or link.negated or meets(link.left(), lefts):
            continue
        if fact.other is not None and not meets(link.rights, rights):
            continue
        for index in link.lefts:
            taker = given.mentions[index]
            if meets(taker.beside, lefts):
                continue  # "lemons and oranges in a crate"
            for other in context.things:
                if fits(other, taker) == 2 and not fits_each(other, thing) and not _asked(context, fact, other):
                    return taker.head
    return ""


def _asked(context: Context, fact: Fact, thing: Thing) -> bool:
    """Did the prompt say the same of `thing` too?"""
    for other in context.facts:
        if other.kind not in ("relation", "action") or other is fact:
            continue
        alike = (
            other.value == fact.value
            or {other.value, fact.value} <= {"with", *WEARING}
            or same_verb(other.value, fact.value)
        )
        alike = alike and any(t is not None and fits_each(t, thing) for t in (other.thing, *other.maybe))
        if alike and (fact.other is None or (other.other is not None and fits_each(other.other, fact.other))):
            return True
    return any(fits_each(t, thing) for t in fact.maybe)


def told(given: Reading, name: str, lefts: list[int], rights: list[int], way: int) -> bool:
    for link in given.links:
        if link.name == name and link.kind == "relation" and not link.negated:
            one, other = (link.left(), link.right()) if way == 1 else (link.right(), link.left())
            if apart(one, other, lefts, rights) or (way == 1 and meets(one, lefts) and not link.rights):
                return True
    return False
