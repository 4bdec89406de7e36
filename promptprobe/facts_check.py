"""One fact against the reading of a rewrite: kept, unsure or lost, with the reason in words.

"Lost" is said only where code is sure: the thing, number or text is gone, another stands in its place, or what belonged
to one thing belongs to another. What is merely not found again is unsure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .facts import Fact, Thing
from .facts_reading import Mention, Reading, joined, read
from .facts_text import has_text, numbers_in, surface
from .facts_words import known_words, same_kind, same_verb, stem

KEPT, UNSURE, LOST = "kept", "unsure", "lost"
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "front": "behind", "behind": "front"}
_STRONG = {"left", "right", "above", "below", "front", "behind", "on", "in", "next", "between", "around"}
_PLACES = {"left": "at left", "right": "at right", "above": "at top", "on": "at top", "below": "at bottom", "front": "at front",
           "behind": "at back"}  # fmt: skip
_PLACE_OPPOSITE = {"at left": "at right", "at right": "at left", "at top": "at bottom", "at bottom": "at top",
                   "at front": "at back", "at back": "at front"}  # fmt: skip
# wanted relation -> what says the same: (name, +1 as told or -1 told from the other side, sure)
_SAYS = {
    "left": [("left", 1, True), ("right", -1, True)],
    "right": [("right", 1, True), ("left", -1, True)],
    "above": [("above", 1, True), ("below", -1, True), ("on", 1, False)],
    "below": [("below", 1, True), ("above", -1, True), ("on", -1, False)],
    "front": [("front", 1, True), ("behind", -1, True)],
    "behind": [("behind", 1, True), ("front", -1, True)],
    "on": [("on", 1, True), ("above", 1, False), ("below", -1, False), ("with", -1, False), ("of", -1, False),
           ("against", 1, False), ("in", 1, False), ("across", 1, True), ("along", 1, False), ("of", 1, True), ("at", 1, False)],
    "in": [("in", 1, True), ("with", -1, True), ("of", -1, True), ("at", 1, False), ("of", 1, True), ("through", 1, True),
           ("across", 1, True), ("around", -1, False), ("from", 1, False), ("along", 1, False)],
    "next": [("next", 1, True), ("next", -1, True), ("with", 1, False), ("with", -1, False), ("against", 1, False)],
    "between": [("between", 1, True), ("around", -1, False)],
    "around": [("around", 1, True), ("around", -1, False), ("with", -1, False)],
}  # fmt: skip
_WEARING = {"wear", "hold", "carry", "have", "wield", "sport"}
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


def matches(thing: Thing, given: Reading, loosely: bool = True) -> list[int]:
    """Where a rewrite names this thing: exact matches, the best described first; else kinds of it."""
    exact = sorted({i for form in joined(thing.head, thing.of) for i in given.forms.get(form, ())})
    if exact or not loosely:
        return sorted(exact, key=lambda i: -_likeness(thing, given.mentions[i]))
    return [i for i, m in enumerate(given.mentions) if not m.negated and same_kind(thing.head, m.head)]


def fits(thing: Thing, mention: Mention) -> int:
    """2 where a mention names the thing, 1 where it names a kind of it or what it is a kind of, else 0."""
    if thing.head == mention.head or joined(thing.head, thing.of) & joined(mention.head, mention.of) - {""}:
        return 2
    return 1 if same_kind(thing.head, mention.head) else 0


# What stands in the text


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


# Things


def _object(fact: Fact, given: Reading, context: Context) -> Finding:
    thing = _of(fact)
    found = matches(thing, given)
    if found and fits(thing, given.mentions[found[0]]) == 2:
        return Finding(KEPT)
    if found:
        return Finding(UNSURE, f"{thing.head} became {given.mentions[found[0]].head}")
    if any(m.negated and fits(thing, m) == 2 for m in given.mentions):
        return Finding(LOST, f"object {thing.head} (it is said not to be there)")
    if any(("shape", thing.head) in m.attributes for m in given.mentions) and not _is_shape_of(thing.head, context):
        return Finding(LOST, f"object {thing.head}")
    if any(thing.head in m.values() for m in given.mentions):
        return Finding(UNSURE, f"{thing.head} is only hinted at")
    if thing.head in given.words or stem(thing.head) in given.stems or thing.head.replace(" ", "") in given.words:
        return Finding(UNSURE, f"{thing.head} is only hinted at")
    if len(thing.head) > 3 and any(w.endswith(thing.head) for w in given.words):
        return Finding(UNSURE, f"{thing.head} is worded otherwise")
    parts = thing.head.split()
    if len(parts) > 1 and all(stem(p) in given.stems for p in parts):
        return Finding(UNSURE, f"{thing.head} is worded otherwise")
    if thing.head in _IMPLIED:
        return Finding(UNSURE, f"{thing.head} isn't named")
    new = [m.head for m in given.things() if not m.listed and not m.soft and m.head not in context.words]
    if not thing.listed and new and context.words:
        return Finding(UNSURE, f"{thing.head} may have become {new[0]}")
    return Finding(LOST, f"object {thing.head}")


_IMPLIED = {"sky", "ground", "floor", "horizon", "air", "surface"}  # there even where nobody says so


def _is_shape_of(head: str, context: Context) -> bool:
    return not context.things or any(("shape", head) in t.attributes for t in context.things)


def _count(fact: Fact, given: Reading, context: Context) -> Finding:
    thing = _of(fact)
    found = matches(thing, given)
    if not found:
        return Finding(KEPT)  # the object's own fact says that it is gone
    mentions = [given.mentions[i] for i in found]
    if fact.sort != "part":
        mentions = [m for m in mentions if not m.part_of_count] or mentions
    best = [m for m in mentions if _likeness(thing, m) == _likeness(thing, mentions[0])]
    paired = thing.head in known_words().function["paired"]
    if fact.sort == "part":
        wanted = int(fact.value)
        if any(m.part_of_count or m.count == wanted for m in mentions):
            return Finding(KEPT)
        every = all((m.count or 2) > wanted and set(thing.attributes) <= set(m.attributes) for m in mentions)
        return Finding(LOST if every and thing.attributes else UNSURE, f"only {wanted} {thing.head}")
    if fact.value == "several":
        if all(m.count == 1 and not m.plural for m in mentions) and not paired and len(mentions) == 1:
            return Finding(LOST, f"several {thing.head} became one")
        return Finding(KEPT)
    wanted = int(fact.value)
    told = [m.count if m.count is not None else (None if m.plural else 1) for m in best]
    everyone = [m.count if m.count is not None else (None if m.plural else 1) for m in mentions]
    if wanted in told or (None not in everyone and sum(n for n in everyone if n) == wanted):
        return Finding(KEPT)
    if paired and wanted <= 2 and any(n in (None, 1, 2) for n in told):
        return Finding(KEPT)
    if wanted in everyone and len(mentions) > 1 and not thing.attributes:
        return Finding(KEPT)
    if (
        wanted == 1
        and told == [None]
        and mentions[0].count is None
        and not mentions[0].determined
        and _same_for_all(thing)
    ):
        return Finding(KEPT)
    if any(m.part_of_count for m in best):
        return Finding(UNSURE, f"count of {thing.head}")
    same = [
        f
        for f in context.facts
        if f.kind == "count" and f.thing and f.thing.head == thing.head and f.value != "several"
    ]
    if len(same) > 1 and None not in everyone and sum(int(f.value) for f in same) == sum(n for n in everyone if n):
        return Finding(KEPT)
    return Finding(LOST, f"count {wanted} of {thing.head}")


def _same_for_all(thing: Thing) -> bool:
    return known_words().plurals.get(thing.head) == thing.head


def _attribute(fact: Fact, given: Reading, context: Context) -> Finding:
    thing, value = _of(fact), fact.value
    label = f"{value} background" if thing.head == "background" else f"{fact.sort} {value} of {thing.head}"
    if fact.sort == "kind":
        label = f"{value} of {thing.head}"
    found = matches(thing, given)
    if not found:
        if thing.head != "background":
            return Finding(KEPT)
        floating = _mentioned(value, given)
        return Finding(UNSURE if floating else LOST, label)
    best = given.mentions[found[0]]
    tied = [given.mentions[i] for i in found if _likeness(thing, given.mentions[i]) == _likeness(thing, best)]
    if any(_has(m, value, fact.sort) for m in tied[:1]):
        return Finding(KEPT)
    if any(_has(given.mentions[i], value, fact.sort) for i in _parts_of(found[:1], given, context)):
        return Finding(KEPT)
    if any(_has(m, value, fact.sort) for m in tied) and not _clashes(best, value, fact.sort, thing):
        return Finding(KEPT)
    mover = _moved(fact, given, context)
    if mover:
        return Finding(LOST, f"{label} (it went to {mover})")
    clash = _clashes(best, value, fact.sort, thing)
    if (clash and len(found) == 1) or (clash and all(_clashes(m, value, fact.sort, thing) for m in tied)):
        return Finding(LOST, label if fact.sort == "colour" else f"{label} (it became {clash})")
    if _near(best, value):
        return Finding(UNSURE, f"{label} became {_near(best, value)}")
    if fits(thing, best) == 1 and fact.sort == "kind":
        return Finding(UNSURE, label)
    own = [i for i, m in enumerate(given.mentions) if m.head == value and not m.negated]
    if fact.sort in ("shape", "material") and own and value not in {t.head for t in context.things}:
        if not any(x.name in ("with", "of", "is", "as") and _meets([*x.left(), *x.right()], own) for x in given.links):
            return Finding(LOST, f"{label} (it became a thing of its own)")
    if (
        fact.sort == "kind"
        and fits(thing, best) == 2
        and set(best.of) - set(thing.of) - context.words
        and not set(best.of) & set(thing.of)
    ):
        return Finding(LOST, f"{label} (it became {best.of[-1]})")
    if _mentioned(value, given):
        return Finding(UNSURE, label)
    if fact.sort in ("colour", "material", "shape", "pattern", "origin", "era") and value != "multicolored":
        return Finding(LOST, label)
    if fact.sort in ("texture",) and sum(f.sort == "texture" for f in context.facts) > 1:
        return Finding(LOST, label)
    return Finding(UNSURE, label)


def _mentioned(value: str, given: Reading) -> bool:
    """Is a word for this value anywhere in the rewrite?"""
    if value in given.words or all(stem(w) in given.stems for w in value.split()):
        return True
    known = known_words().attributes
    return any(value == other for w in given.words for _, other in known.get(w, ()))


def _has(mention: Mention, value: str, sort: str) -> bool:
    if value in mention.values() or value in mention.of or value == mention.head:
        return True
    root = stem(value)
    words = [*mention.of, *mention.head.split(), *(w for v in mention.values() for w in v.split()), mention.word]
    if root in {stem(w) for w in words}:
        return True
    known = known_words().attributes
    rings = {v for w in (*mention.of, mention.word) for _, v in known.get(w, ())}
    return value in rings


def _parts_of(owners: Iterable[int], given: Reading, context: Context) -> list[int]:
    """What a thing has or is made of, unless the prompt asked for that apart."""
    wanted = {t.head for t in context.things}
    found = []
    for link in given.links:
        if link.kind == "relation" and link.name in ("with", "of", "is") and set(link.lefts) & set(owners):
            found += [i for i in link.rights if given.mentions[i].head not in wanted or link.name in ("of", "is")]
    return found


def _moved(fact: Fact, given: Reading, context: Context) -> str:
    """The head of another wanted thing that has the attribute now and had not."""
    thing = _of(fact)
    for other in context.things:
        if (other.head == thing.head and other != thing) or fits_each(other, thing):
            continue
        if fact.value in {v for _, v in other.attributes} or fact.value in other.of or fact.value == other.head:
            continue
        for index in matches(other, given, loosely=False)[:1]:
            mention = given.mentions[index]
            if fact.value in mention.values() or fact.value in mention.of:
                return other.head
    return ""


def fits_each(one: Thing, other: Thing) -> bool:
    """Could the two be the same thing?"""
    return one.head == other.head or same_kind(one.head, other.head)


def _clashes(mention: Mention, value: str, sort: str, thing: Thing) -> str:
    """A value of the mention that excludes the wanted one."""
    words = known_words()
    asked = {v for _, v in thing.attributes}
    for name, other in mention.attributes:
        if other in asked or other == value or other in words.near.get(value, ()):
            continue
        if (name == sort and name in words.exclusive) or (value, other) in words.opposites:
            return other
    return ""


def _near(mention: Mention, value: str) -> str:
    near = known_words().near.get(value, set())
    return next((v for v in sorted(mention.values()) if v in near), "") or next(
        (w for w in mention.of if w in near), ""
    )


def _likeness(thing: Thing, mention: Mention) -> float:
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


# Links


def _relation(fact: Fact, given: Reading, context: Context) -> Finding:
    lefts, rights = _sides(fact, given)
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
        if _told(given, said, lefts, rights, way):
            if certain:
                return Finding(KEPT)
            sure = True
    place = _placed(name, given, lefts, rights)
    if place == KEPT:
        return Finding(KEPT)
    if (name != "next" and _told_for_sure(given, name, rights, lefts)) or place == LOST:
        return Finding(LOST, label)
    if name in _OPPOSITE and _told_for_sure(given, _OPPOSITE[name], lefts, rights):
        return Finding(LOST, label)
    taken = "" if sure else _taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    if any(
        link.name == name and link.kind == "relation" and _meets(link.rights, rights) and not _meets(link.left(), lefts)
        and any(first and fits(first, given.mentions[i]) == 2 for i in link.lefts)
        for link in given.links
    ) and sum(first is not None and t.head == first.head for t in context.things) > 1:  # fmt: skip
        return Finding(LOST, f"{label} (now another {first.head if first else ''})")
    if sure:
        inside = name == "in" and rights and given.mentions[rights[0]].head in _CONTAINERS
        return Finding(LOST if inside and _told_for_sure(given, "on", lefts, rights) else UNSURE, label)
    for other in _STRONG - {name}:
        if _told_for_sure(given, other, lefts, rights) or _told_for_sure(given, other, rights, lefts):
            lax = name in ("next", "around") or (
                name == "in" and other == "on" and given.mentions[rights[0]].head not in _CONTAINERS
            )
            return Finding(UNSURE if lax else LOST, f"{label} (now {other})")
    if _acts_between(given, lefts, rights):
        return Finding(UNSURE, label)
    if any(link.name in (name, _OPPOSITE.get(name)) and (not link.lefts or not link.rights) for link in given.links):
        return Finding(UNSURE, label)
    if name in ("next", "around", "in"):
        return Finding(UNSURE, label)
    if name == "on" and _is_place(fact.other):
        return Finding(UNSURE, label)
    loose = any(link.name in (name, _OPPOSITE.get(name)) for link in given.links)
    return Finding(UNSURE, label) if loose and name not in _OPPOSITE else Finding(LOST, label)


def _weak(fact: Fact, given: Reading, context: Context, lefts: list[int], rights: list[int], label: str) -> Finding:
    if _linked(given, lefts, rights):
        return Finding(KEPT)
    taken = _taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    return Finding(UNSURE, label) if fact.value in ("with", "of") else Finding(KEPT)


def _action(fact: Fact, given: Reading, context: Context) -> Finding:
    words = known_words()
    verb = fact.value
    posture = verb in words.posture
    subject, other = fact.thing, fact.other
    lefts, rights = _sides(fact, given)
    label = fact.text
    if (subject is not None and not lefts) or (other is not None and not rights):
        return Finding(KEPT)  # the objects' own facts say so
    if fact.other is None and subject is not None and "doing" in {c for c, _ in subject.attributes}:
        verbs_now = {v for i in lefts[:1] for c, v in given.mentions[i].attributes if c == "doing"}
        verbs_now |= {x.name for x in given.links if x.kind == "action" and not x.rights and _meets(x.lefts, lefts[:1])}
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
        if (subject is None or _meets(link.left(), lefts)) and (other is None or _meets(link.right(), rights)):
            return Finding(KEPT)
        if subject is not None and other is None and link.passive and not link.lefts and _meets(link.rights, lefts):
            return Finding(KEPT)
    doing = {v for i in [*lefts, *(rights if subject is None else [])] for v in given.mentions[i].values()}
    if any(stem(v) == stem(verb) or same_verb(v, verb) for v in doing) and (other is None or subject is None):
        return Finding(KEPT)
    if subject is not None and other is not None:
        for link in same:
            if _meets(link.lefts, rights) and _meets(link.rights, lefts):
                return Finding(LOST, f"{label} (the roles are swapped)")
        if verb in _WEARING and (_with(given, lefts, rights)):
            return Finding(KEPT)
    taken = _taken_over(fact, given, context, lefts, rights)
    if taken:
        return Finding(LOST, f"{label} (now {taken})")
    if other is not None and subject is not None:
        if (verb == "ride" and _told(given, "on", lefts, rights, 1)) or posture:
            return Finding(UNSURE, label) if _linked(given, lefts, rights) else Finding(KEPT)
        if same and any(_meets(x.left(), lefts) or _meets(x.right(), rights) for x in same):
            return Finding(UNSURE, label)
    if posture:
        return Finding(KEPT)
    for link in given.links:
        if link.kind != "action" or link.negated or link in same or not _meets(link.lefts, lefts):
            continue
        if verb in _MILD and link.name in words.posture:
            continue
        if verb in _GENERAL and link.name in _UNMAKING:
            return Finding(LOST, f"{label} (now {link.name})")
        known = (
            link.name in words.meanings
            and verb in words.meanings
            and link.name not in _GENERAL
            and verb not in _GENERAL
        )
        if (
            known
            and (other is None or _meets(link.right(), rights) or not link.rights)
            and stem(verb) not in given.stems
        ):
            return Finding(LOST, f"{label} (now {link.name})")
    if stem(verb) in given.stems:
        return Finding(UNSURE, label)
    if verb not in words.meanings:
        return Finding(UNSURE, label)
    if other is not None and subject is not None:
        return Finding(UNSURE if _linked(given, lefts, rights, closely=True) else LOST, label)
    if subject is not None and {"person", "animal"} & words.sorts.get(subject.head, set()) and verb not in _MILD:
        return Finding(LOST, label)
    return Finding(UNSURE, label)


_GENERAL = {"make", "use", "take", "prepare", "create", "perform", "get", "do", "try", "start", "begin", "give", "have"}
_UNMAKING = {"eat", "drink", "throw", "break", "chase", "destroy", "kick", "burn", "steal", "sell"}
_MILD = {"sunbathe", "bask", "wait", "smile", "walk", "gather", "grow", "float", "turn", "form", "make", "use", "work", "rest", "play", "return", "talk",
         "park", "land", "fold", "bow", "point", "model", "watch", "cover", "cross"}  # fmt: skip


def _place(fact: Fact, given: Reading, context: Context) -> Finding:
    found = matches(_of(fact), given)
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
            if any(x.name == said and _meets(x.left() if way == 1 else x.right(), found) for x in given.links):
                return Finding(KEPT)
        against = _OPPOSITE.get(name)
        if against and any(x.name == against and _meets(x.lefts, found) for x in given.links):
            return Finding(LOST, label)
    if opposite and any(opposite in given.mentions[i].places for i in found):
        return Finding(LOST, label)
    gone = side in ("at left", "at right") and side[3:] not in given.words
    return Finding(LOST if gone else UNSURE, label)


def _absence(fact: Fact, given: Reading, context: Context) -> Finding:
    label = fact.text
    if fact.sort == "doing":
        if any(same_verb(w, fact.value) or stem(w) == stem(fact.value) for w in given.lacking):
            return Finding(KEPT)
        if any(x.kind == "action" and same_verb(x.name, fact.value) and not x.negated for x in given.links):
            return Finding(LOST, label)
        if any(same_verb(v, fact.value) or stem(v) == stem(fact.value) for m in given.things() for v in m.values()):
            return Finding(LOST, label)
        return Finding(UNSURE, label)
    thing = _of(fact)
    if any(m.negated and fits(thing, m) for m in given.mentions):
        return Finding(KEPT)
    if any(fits(thing, m) == 2 or (thing.head in ("person", "people") and fits(thing, m)) for m in given.things()):
        return Finding(LOST, label)
    if any(thing.head in m.of for m in given.things()):
        return Finding(LOST, label)
    return Finding(UNSURE, label)


def _style(fact: Fact, given: Reading, context: Context) -> Finding:
    section, name = fact.sort, fact.value
    told = {n for s, n in given.scene if s == section}
    if name in told or all(stem(w) in given.stems for w in name.split()):
        return Finding(KEPT)
    others = told - {f.value for f in context.facts if f.kind == "style" and f.sort == section}
    near = {name, *others} <= {"dawn", "morning"} or {name, *others} <= {"day", "morning"}
    if section in known_words().exclusive and others and not near:
        return Finding(LOST, f"{section} {name} (it became {sorted(others)[0]})")
    gone = section == "tone" or (section == "medium" and name not in ("photo", "3d render"))
    return Finding(LOST if gone else UNSURE, f"{section} {name}")


def _sides(fact: Fact, given: Reading) -> tuple[list[int], list[int]]:
    """Mentions that may stand for the two sides of a fact; of several of one name the best described."""
    lefts: list[int] = []
    for thing in ([fact.thing] if fact.thing else []) + list(fact.maybe):
        lefts += _best(thing, given)
    rights = _best(fact.other, given) if fact.other else []
    if fact.thing and not matches(fact.thing, given):
        return [], rights
    return lefts, rights


def _best(thing: Thing, given: Reading) -> list[int]:
    found = matches(thing, given)
    top = [i for i in found if _likeness(thing, given.mentions[i]) == _likeness(thing, given.mentions[found[0]])]
    return top


def _meets(some: Iterable[int], others: Iterable[int]) -> bool:
    return not set(some).isdisjoint(others)


def _told(given: Reading, name: str, lefts: list[int], rights: list[int], way: int) -> bool:
    for link in given.links:
        if link.name == name and link.kind == "relation" and not link.negated:
            one, other = (link.left(), link.right()) if way == 1 else (link.right(), link.left())
            if _apart(one, other, lefts, rights) or (way == 1 and _meets(one, lefts) and not link.rights):
                return True
    return False


def _told_for_sure(given: Reading, name: str, lefts: list[int], rights: list[int]) -> bool:
    return any(
        x.name == name and x.kind == "relation" and not x.negated and _apart(x.lefts, x.rights, lefts, rights)
        for x in given.links
    )


def _apart(one: list[int], other: list[int], lefts: list[int], rights: list[int]) -> bool:
    """Does `one` meet the lefts and `other` the rights, in two different mentions?"""
    return any(a != b for a in set(one) & set(lefts) for b in set(other) & set(rights))


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


def _taken_over(fact: Fact, given: Reading, context: Context, lefts: list[int], rights: list[int]) -> str:
    """The head of another wanted thing that has the place or the deed of `fact.thing` now, and had not in the prompt."""
    thing = fact.thing
    if thing is None:
        return ""
    for link in given.links:
        same = link.name == fact.value or (link.kind == "action" and same_verb(link.name, fact.value))
        same = same or (fact.value in {"with", *_WEARING} and link.name in {"with", *_WEARING})
        if not same or link.negated or _meets(link.left(), lefts):
            continue
        if fact.other is not None and not _meets(link.rights, rights):
            continue
        for index in link.lefts:
            taker = given.mentions[index]
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
            or {other.value, fact.value} <= {"with", *_WEARING}
            or same_verb(other.value, fact.value)
        )
        if alike and any(t is not None and fits_each(t, thing) for t in (other.thing, *other.maybe)):
            if fact.other is None or (other.other is not None and fits_each(other.other, fact.other)):
                return True
    return any(fits_each(t, thing) for t in fact.maybe)


def _linked(given: Reading, lefts: list[int], rights: list[int], closely: bool = False) -> bool:
    for link in given.links:
        if closely and link.name in ("next", "left", "right", "front", "behind", "above", "below", "around", "between"):
            continue
        if not link.negated and (
            _apart(link.left(), link.right(), lefts, rights) or _apart(link.right(), link.left(), lefts, rights)
        ):
            return True
    return False


def _acts_between(given: Reading, lefts: list[int], rights: list[int]) -> bool:
    return any(
        x.kind == "action" and _apart([*x.left(), *x.right()], [*x.left(), *x.right()], lefts, rights)
        for x in given.links
    )


def _with(given: Reading, lefts: list[int], rights: list[int]) -> bool:
    for link in given.links:
        if link.name in ("with", "in", "wear", "hold", "carry") and _apart(link.left(), link.right(), lefts, rights):
            return True
        if link.name in ("on", "of", "in") and _apart(link.right(), link.left(), lefts, rights):
            return True
    return False


def _hinted(fact: Fact, given: Reading) -> bool:
    return all(t is None or t.head in given.words or stem(t.head) in given.stems for t in (fact.thing, fact.other))


def _is_place(thing: Thing | None) -> bool:
    return thing is not None and bool({"place", "surface"} & known_words().sorts.get(thing.head, set()))


def _of(fact: Fact) -> Thing:
    return fact.thing or Thing(fact.value)


_ON_TEXT = {"text": _text, "name": _name, "code": _code, "number": _number, "tag": _tag}
_ON_READING = {
    "object": _object, "count": _count, "attribute": _attribute, "relation": _relation, "action": _action, "place": _place,
    "absence": _absence, "style": _style,
}  # fmt: skip
