"""Objects, counts, attributes, absences and style of a prompt, looked for in a rewrite."""

from __future__ import annotations

from collections.abc import Iterable

from .facts import Fact, Thing
from .facts_match import (
    KEPT,
    LOST,
    UNSURE,
    Context,
    Finding,
    fits,
    fits_each,
    holds,
    is_collected,
    likeness,
    matches,
    meets,
    parted,
    thing_of,
)  # fmt: skip
from .facts_reading import Mention, Reading
from .facts_words import is_kind_of, known_words, same_verb, stem


def check_object(fact: Fact, given: Reading, context: Context) -> Finding:
    thing = thing_of(fact)
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
    if any(holds(w, thing.head) for w in given.words):
        return Finding(UNSURE, f"{thing.head} is worded otherwise")
    parts = thing.head.split() if " " in thing.head else parted(thing.head)
    if len(parts) > 1 and all(stem(p) in given.stems for p in parts):
        return Finding(UNSURE, f"{thing.head} is worded otherwise")
    if is_collected(thing, given):
        return Finding(UNSURE, f"{thing.head} is worded otherwise")
    if thing.head in _IMPLIED or (thing.head in _BY_THE_WAY and not thing.attributes and thing.count is None):
        return Finding(UNSURE, f"{thing.head} isn't named")
    new = [m.head for m in given.things() if not m.listed and not m.soft and m.head not in context.words]
    if not thing.listed and new and context.words:
        return Finding(UNSURE, f"{thing.head} may have become {new[0]}")
    return Finding(LOST, f"object {thing.head}")


_BY_THE_WAY = {"hand", "lap", "back", "arm", "shoulder", "body", "top", "side", "base"}  # "lantern in hand"
_IMPLIED = {"sky", "ground", "floor", "horizon", "air", "surface"}  # there even where nobody says so


def _is_shape_of(head: str, context: Context) -> bool:
    return not context.things or any(("shape", head) in t.attributes for t in context.things)


def check_count(fact: Fact, given: Reading, context: Context) -> Finding:
    thing = thing_of(fact)
    found = matches(thing, given)
    if not found:
        return Finding(KEPT)  # the object's own fact says that it is gone
    mentions = [given.mentions[i] for i in found]
    if fact.sort != "part":
        mentions = [m for m in mentions if not m.part_of_count] or mentions
    best = [m for m in mentions if likeness(thing, m) == likeness(thing, mentions[0])]
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
    if paired and wanted <= 2 and any(n in (None, wanted) for n in told):
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


def check_attribute(fact: Fact, given: Reading, context: Context) -> Finding:
    thing, value = thing_of(fact), fact.value
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
    tied = [given.mentions[i] for i in found if likeness(thing, given.mentions[i]) == likeness(thing, best)]
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
    if value.startswith("un") and len(value) > 4 and stem(value[2:]) in {stem(v) for v in best.values() | set(best.of)}:
        return Finding(LOST, label)
    if _near(best, value):
        return Finding(UNSURE, f"{label} became {_near(best, value)}")
    if fits(thing, best) == 1 and fact.sort == "kind":
        return Finding(UNSURE, label)
    own = [i for i, m in enumerate(given.mentions) if m.head == value and not m.negated]
    apart = own and not any(
        x.name in ("with", "of", "is", "as") and meets([*x.left(), *x.right()], own) for x in given.links
    )
    if fact.sort in ("shape", "material") and apart and value not in {t.head for t in context.things}:
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
    thing = thing_of(fact)
    for other in context.things:
        if (other.head == thing.head and other != thing) or fits_each(other, thing):
            continue
        if other.head in _DEPICTIONS and _depicts(other, thing, context):
            continue
        if fact.value in {v for _, v in other.attributes} or fact.value in other.of or fact.value == other.head:
            continue
        for index in matches(other, given, loosely=False)[:1]:
            mention = given.mentions[index]
            if fact.value in mention.values() or fact.value in mention.of:
                return other.head
    return ""


_DEPICTIONS = {"logo", "icon", "sticker", "emblem", "badge", "tattoo", "patch", "mural", "figurine", "statue", "sculpture", "pattern",
               "stamp"}  # fmt: skip


def _depicts(one: Thing, other: Thing, context: Context) -> bool:
    """ "a logo of a fox, flat, orange": what is said of one may be said of the other."""
    return any(
        f.kind == "relation" and f.value == "of" and f.thing is not None and f.other is not None
        and fits_each(f.thing, one) and fits_each(f.other, other)
        for f in context.facts
    )  # fmt: skip


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


def check_absence(fact: Fact, given: Reading, context: Context) -> Finding:
    label = fact.text
    if fact.sort == "doing":
        if any(same_verb(w, fact.value) or stem(w) == stem(fact.value) for w in given.lacking):
            return Finding(KEPT)
        if any(x.kind == "action" and same_verb(x.name, fact.value) and not x.negated for x in given.links):
            return Finding(LOST, label)
        if any(same_verb(v, fact.value) or stem(v) == stem(fact.value) for m in given.things() for v in m.values()):
            return Finding(LOST, label)
        return Finding(UNSURE, label)
    thing = thing_of(fact)
    if fact.sort == "relation":
        lefts, rights = matches(thing, given), matches(fact.other, given) if fact.other else []
        said = any(
            x.name == fact.value and not x.negated and meets(x.lefts, lefts) and meets(x.rights, rights)
            for x in given.links
        )
        return Finding(LOST, label) if said else Finding(KEPT)
    if any(m.negated and fits(thing, m) for m in given.mentions):
        return Finding(KEPT)
    if thing.count == 1 and any(m.count == 1 and m.head == thing.head for m in given.things()):
        return Finding(UNSURE, label)  # "a missing eye": "one-eyed"
    if any(is_kind_of(m.head, thing.head) for m in given.things()):
        return Finding(LOST, label)
    if any(fits(thing, m) == 2 or (thing.head in ("person", "people") and fits(thing, m)) for m in given.things()):
        return Finding(LOST, label)
    if any(thing.head in m.of for m in given.things()):
        return Finding(LOST, label)
    return Finding(UNSURE, label)


def check_style(fact: Fact, given: Reading, context: Context) -> Finding:
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
