"""How things lie to one another, looked for in a rewrite: told the same way, from the other side, or the wrong way round."""

from __future__ import annotations

from .facts import Fact, Thing
from .facts_match import KEPT, LOST, UNSURE, Context, Finding, fits, is_collected, matches, meets, thing_of
from .facts_reading import Reading
from .facts_sides import apart, linked, sides, taken_over, told, told_for_sure
from .facts_words import known_words, stem

_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "front": "behind", "behind": "front"}


_STRONG = {"left", "right", "above", "below", "front", "behind", "on", "in", "next", "between", "around"}


_PLACES = {"left": "at left", "right": "at right", "above": "at top", "on": "at top", "below": "at bottom", "front": "at front",
           "behind": "at back"}  # fmt: skip


_PLACE_OPPOSITE = {"at left": "at right", "at right": "at left", "at top": "at bottom", "at bottom": "at top",
                   "at front": "at back", "at back": "at front"}  # fmt: skip


_SAYS = {
    "left": [("left", 1, True), ("right", -1, True)],
    "right": [("right", 1, True), ("left", -1, True)],
    "above": [("above", 1, True), ("below", -1, True), ("on", 1, False)],
    "below": [("below", 1, True), ("above", -1, True), ("on", -1, False)],
    "front": [("front", 1, True), ("behind", -1, True)],
    "behind": [("behind", 1, True), ("front", -1, True)],
    "on": [("on", 1, True), ("above", 1, False), ("below", -1, False), ("with", -1, False), ("of", -1, False), ("in", -1, False),
           ("against", 1, False), ("in", 1, False), ("across", 1, True), ("along", 1, False), ("of", 1, True), ("at", 1, False)],
    "in": [("in", 1, True), ("with", -1, True), ("of", -1, True), ("at", 1, False), ("of", 1, True), ("through", 1, True),
           ("across", 1, True), ("around", -1, False), ("from", 1, False), ("along", 1, False)],
    "next": [("next", 1, True), ("next", -1, True), ("with", 1, False), ("with", -1, False), ("against", 1, False)],
    "between": [("between", 1, True), ("around", -1, False)],
    "around": [("around", 1, True), ("around", -1, False), ("with", -1, False)],
}  # fmt: skip


_CONTAINERS = {
    "box",
    "bottle",
    "jar",
    "cage",
    "basket",
    "bag",
    "bucket",
    "cup",
    "glass",
    "pot",
    "suitcase",
    "drawer",
    "crate",
    "carton",
}


def check_relation(fact: Fact, given: Reading, context: Context) -> Finding:
    lefts, rights = sides(fact, given)
    first = fact.thing
    label = f"{first.head if first else ''} {fact.value} {fact.other.head if fact.other else ''}".strip()
    name = fact.value
    if not lefts or not rights:
        directed = name in _OPPOSITE
        return Finding(LOST, label) if directed and not (_hinted(fact, given)) else Finding(KEPT)
    if name not in _STRONG:
        return _weak(fact, given, context, lefts, rights, label)
    sure = False
    for said, way, certain in _SAYS[name]:
        if told(given, said, lefts, rights, way):
            if certain:
                return Finding(KEPT)
            sure = True
    place = _placed(name, given, lefts, rights)
    if place == KEPT:
        return Finding(KEPT)
    if (name != "next" and told_for_sure(given, name, rights, lefts)) or place == LOST:
        return Finding(LOST, label)
    if name in _OPPOSITE and told_for_sure(given, _OPPOSITE[name], lefts, rights):
        return Finding(LOST, label)
    taken = "" if sure else taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    if any(
        link.name == name and link.kind == "relation" and meets(link.rights, rights) and not meets(link.left(), lefts)
        and any(first and fits(first, given.mentions[i]) == 2 for i in link.lefts)
        for link in given.links
    ) and sum(first is not None and t.head == first.head for t in context.things) > 1:  # fmt: skip
        return Finding(LOST, f"{label} (now another {first.head if first else ''})")
    if sure:
        inside = name == "in" and rights and given.mentions[rights[0]].head in _CONTAINERS
        return Finding(LOST if inside and told_for_sure(given, "on", lefts, rights) else UNSURE, label)
    for other in _STRONG - {name}:
        if told_for_sure(given, other, lefts, rights) or told_for_sure(given, other, rights, lefts):
            lax = (name == "next" or (name == "around" and other not in ("on", "above", "below"))) or (
                name == "in" and other == "on" and given.mentions[rights[0]].head not in _CONTAINERS
            )
            return Finding(UNSURE if lax else LOST, f"{label} (now {other})")
    if _acts_between(given, lefts, rights):
        return Finding(UNSURE, label)
    if any(link.name in (name, _OPPOSITE.get(name)) and (not link.lefts or not link.rights) for link in given.links):
        return Finding(UNSURE, label)
    if name in ("next", "around", "in"):
        return Finding(UNSURE, label)
    if name == "on" and (_is_place(fact.other) or _stands_alone(given, rights)):
        return Finding(UNSURE, label)
    loose = any(link.name in (name, _OPPOSITE.get(name)) for link in given.links)
    return Finding(UNSURE, label) if loose and name not in _OPPOSITE else Finding(LOST, label)


def _weak(fact: Fact, given: Reading, context: Context, lefts: list[int], rights: list[int], label: str) -> Finding:
    if linked(given, lefts, rights):
        return Finding(KEPT)
    taken = taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    return Finding(UNSURE, label) if fact.value in ("with", "of") else Finding(KEPT)


def check_place(fact: Fact, given: Reading, context: Context) -> Finding:
    found = matches(thing_of(fact), given)
    label = fact.text
    if not found:
        return Finding(KEPT)
    side = fact.value
    if any(side in given.mentions[i].places for i in found):
        return Finding(KEPT)
    opposite = _PLACE_OPPOSITE.get(side, "")
    names = [n for n, p in _PLACES.items() if p == side]
    for name in names:
        for said, way, _ in _SAYS[name]:
            if any(x.name == said and meets(x.left() if way == 1 else x.right(), found) for x in given.links):
                return Finding(KEPT)
        against = _OPPOSITE.get(name)
        if against and any(x.name == against and meets(x.lefts, found) for x in given.links):
            return Finding(LOST, label)
    if opposite and any(opposite in given.mentions[i].places for i in found):
        return Finding(LOST, label)
    gone = side in ("at left", "at right") and side[3:] not in given.words
    return Finding(LOST if gone else UNSURE, label)


def _placed(name: str, given: Reading, lefts: list[int], rights: list[int]) -> str:
    """What "on the left", "on top" say of a relation."""
    side = _PLACES.get(name)
    if not side:
        return ""
    left = {p for i in lefts for p in given.mentions[i].places}
    right = {p for i in rights for p in given.mentions[i].places}
    opposite = _PLACE_OPPOSITE[side]
    if side in left or opposite in right:
        return KEPT
    return LOST if name in ("left", "right") and (opposite in left or side in right) else ""


def _hinted(fact: Fact, given: Reading) -> bool:
    return all(
        t is None or t.head in given.words or stem(t.head) in given.stems or is_collected(t, given)
        for t in (fact.thing, fact.other)
    )


def _stands_alone(given: Reading, found: list[int]) -> bool:
    """ "toy train with blocks, carpet": a setting that is only listed."""
    return any(
        not given.mentions[i].determined and not any(i in [*x.left(), *x.right()] for x in given.links) for i in found
    )


def _is_place(thing: Thing | None) -> bool:
    return thing is not None and bool({"place", "surface"} & known_words().sorts.get(thing.head, set()))


def _acts_between(given: Reading, lefts: list[int], rights: list[int]) -> bool:
    return any(
        x.kind == "action" and apart([*x.left(), *x.right()], [*x.left(), *x.right()], lefts, rights)
        for x in given.links
    )
