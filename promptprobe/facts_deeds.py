"""Who does what to whom, looked for in a rewrite: active or passive, before its noun or after it."""

from __future__ import annotations

from .facts import Fact
from .facts_match import KEPT, LOST, UNSURE, Context, Finding, meets
from .facts_reading import Reading
from .facts_sides import WEARING, apart, linked, sides, taken_over, told
from .facts_words import known_words, same_verb, stem

_GENERAL = {"make", "use", "take", "prepare", "create", "perform", "get", "do", "try", "start", "begin", "give", "have"}


_UNMAKING = {"eat", "drink", "throw", "break", "chase", "destroy", "kick", "burn", "steal", "sell"}


_MILD = {"sunbathe", "bask", "wait", "smile", "walk", "gather", "grow", "float", "turn", "form", "make", "use", "work", "rest", "play", "return", "talk",
         "park", "land", "fold", "bow", "point", "model", "watch", "cover", "cross"}  # fmt: skip


_HANDLING = {"hold", "carry", "lift", "raise", "grip", "clutch", "grab", "bring", "wield", "have", "hoist"}
_GOING = {
    "go",
    "drive",
    "walk",
    "run",
    "travel",
    "move",
    "pass",
    "ride",
    "fly",
    "sail",
    "swim",
    "jump",
    "leap",
    "step",
    "come",
    "speed",
}
_GOING_TO = {"cross", "pass", "enter", "leave", "climb", "follow", "approach", "chase", "circle", "traverse", "catch"}


def check_action(fact: Fact, given: Reading, context: Context) -> Finding:
    words = known_words()
    verb = fact.value
    posture = verb in words.posture
    subject, other = fact.thing, fact.other
    lefts, rights = sides(fact, given)
    label = fact.text
    if (subject is not None and not lefts) or (other is not None and not rights):
        return Finding(KEPT)  # the objects' own facts say so
    if fact.other is None and subject is not None and "doing" in {c for c, _ in subject.attributes}:
        verbs_now = {v for i in lefts[:1] for c, v in given.mentions[i].attributes if c == "doing"}
        verbs_now |= {x.name for x in given.links if x.kind == "action" and not x.rights and meets(x.lefts, lefts[:1])}
        asked = {v for c, v in subject.attributes if c == "doing"}
        known = [v for v in verbs_now if v in words.meanings and v not in asked and v not in words.posture]
        if (
            known
            and verb in words.meanings
            and not any(same_verb(v, verb) for v in verbs_now)
            and stem(verb) not in given.stems
        ):
            return Finding(LOST, f"{label} (now {known[0]})")
    same = [
        x
        for x in given.links
        if x.kind == "action" and not x.negated and (same_verb(x.name, verb) or stem(x.name) == stem(verb))
    ]
    for link in same:
        if (subject is None or meets(link.left(), lefts)) and (other is None or meets(link.right(), rights)):
            return Finding(KEPT)
        if subject is not None and other is None and link.passive and not link.lefts and meets(link.rights, lefts):
            return Finding(KEPT)
    doing = {v for i in [*lefts, *(rights if subject is None else [])] for v in given.mentions[i].values()}
    if any(stem(v) == stem(verb) or same_verb(v, verb) for v in doing) and (other is None or subject is None):
        return Finding(KEPT)
    if subject is not None and other is not None:
        for link in same:
            if meets(link.lefts, rights) and meets(link.rights, lefts):
                return Finding(LOST, f"{label} (the roles are swapped)")
        if verb in WEARING and (_with(given, lefts, rights)):
            return Finding(KEPT)
    taken = taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    if other is not None and subject is not None:
        if (verb == "ride" and told(given, "on", lefts, rights, 1)) or posture:
            return Finding(UNSURE, label) if linked(given, lefts, rights) else Finding(KEPT)
        if same and any(meets(x.left(), lefts) or meets(x.right(), rights) for x in same):
            return Finding(UNSURE, label)
    if posture:
        return Finding(KEPT)
    for link in given.links:
        if link.kind != "action" or link.negated or link in same or not meets(link.lefts, lefts):
            continue
        if (verb in _MILD and link.name in words.posture) or (other is None and link.name in WEARING):
            continue
        if any(
            f.kind == "action" and f.value == link.name and f.thing is not None and f.thing == subject
            for f in context.facts
        ):
            continue  # "diving to catch a ball": it dives in both
        alike = (link.name in _GOING and verb in _GOING_TO) or {link.name, verb} <= _HANDLING
        if alike and other is not None and linked(given, lefts, rights):
            return Finding(UNSURE, label)
        if verb in _GENERAL and link.name in _UNMAKING:
            return Finding(LOST, f"{label} (now {link.name})")
        both_known = (
            link.name in words.meanings
            and verb in words.meanings
            and link.name not in _GENERAL
            and verb not in _GENERAL
        )
        if (
            both_known
            and (other is None or meets(link.right(), rights) or not link.rights)
            and stem(verb) not in given.stems
        ):
            return Finding(LOST, f"{label} (now {link.name})")
    if stem(verb) in given.stems:
        return Finding(UNSURE, label)
    if verb not in words.meanings:
        return Finding(UNSURE, label)
    if other is not None and subject is not None:
        loose = (
            verb in _GENERAL
            or linked(given, lefts, rights, closely=True)
            or (verb in WEARING and _unclaimed(given, lefts, rights))
        )
        return Finding(UNSURE if loose else LOST, label)
    if (
        subject is not None
        and {"person", "animal"} & words.sorts.get(subject.head, set())
        and verb not in _MILD | _GENERAL
    ):
        return Finding(LOST, label)
    return Finding(UNSURE, label)


def _unclaimed(given: Reading, lefts: list[int], rights: list[int]) -> bool:
    """ "pinstripe suit, fedora, a man": what is worn or held belongs to nothing else, and there is nobody else."""
    sorts = known_words().sorts
    alive = [
        i for i, m in enumerate(given.mentions) if not m.negated and {"person", "animal"} & sorts.get(m.head, set())
    ]
    return set(alive) <= set(lefts) and not any(meets(x.right(), rights) for x in given.links)


def _with(given: Reading, lefts: list[int], rights: list[int]) -> bool:
    for link in given.links:
        if link.name in ("with", "in", "wear", "hold", "carry") and apart(link.left(), link.right(), lefts, rights):
            return True
        if link.name in ("on", "of", "in") and apart(link.right(), link.left(), lefts, rights):
            return True
    return False
