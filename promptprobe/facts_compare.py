"""A rewrite against all facts of a prompt, and what it adds: kept, unsure or lost, with reasons in words.

Lost is out. Unsure may compete, is marked, and must win by a margin. Light, weather, mood and style may be added;
things may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .facts import MOST, Fact, Facts, Thing, as_thing, facts_of, facts_of_read
from .facts_check import check_reading
from .facts_match import KEPT, LOST, UNSURE, Context, fits, fits_each, parted
from .facts_parser import read
from .facts_reading import Link, Mention, Reading
from .facts_text import numbers_in
from .facts_words import known_words, same_verb, stem

_HARMLESS = {"wear", "hold", "carry", "watch", "observe", "form", "cover", "reflect", "top", "play", "make", "use", "have", "contain",
             "surround", "touch", "cross"}  # fmt: skip
_ANYBODY = {
    "couple",
    "family",
    "lovers",
    "parents",
    "friends",
    "band",
    "team",
    "everyone",
    "everybody",
    "someone",
    "somebody",
    "people",
    "crowd",
    "crowded",
    "audience",
    "player",
}
_SKY = {"costume", "clothes", "sun", "cloud", "sky", "horizon", "cityscape", "skyline"}  # with light and weather
_TEXT_BEARERS = {"sign", "label", "banner", "logo", "lettering", "letter", "neon sign", "text", "word", "chalk"}


@dataclass(frozen=True)
class Verdict:
    """What became of a prompt in a rewrite. `lost` are sure losses, `unsure` what code could not decide."""

    verdict: str
    lost: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.lost or self.unsure


def compare(
    original: str, rewrite: str, facts: Facts | None = None, thesaurus: Mapping[str, str] | None = None,
    direction: str = "",
) -> Verdict:  # fmt: skip
    """Does `rewrite` keep what `original` asks for? `facts` are its facts as a person left them, else all of them.

    With a `direction`, a person's wish in words, the style may be another, and a setting and what the wish names may come
    in.
    """
    if " ".join(original.split()) == " ".join(rewrite.split()) and facts is None:
        return Verdict(KEPT)
    wanted, given = read(original, thesaurus), read(rewrite, thesaurus)
    facts = facts if facts is not None else facts_of_read(original, wanted)
    context = Context([f.thing for f in facts if f.kind == "object" and f.thing], list(facts), wanted.words)
    lost: list[str] = []
    unsure: list[str] = []
    for fact in facts:
        if direction and fact.kind == "style":
            continue
        if facts.language != "english" and fact.kind == "number":
            continue  # looked at below, among all numbers
        finding = check_reading(fact, given, rewrite, context)
        if finding.verdict != KEPT:
            (lost if finding.verdict == LOST else unsure).append(finding.reason)
    quoted = [q for q in given.surface.quoted if not _said(q, original)]
    lost += [f'added text "{q}"' for q in quoted]
    if facts.language != "english" or given.surface.language != "english":
        lost += _foreign_numbers(wanted, given)
        what = facts.language if facts.language != "english" else given.surface.language
        unsure.append(f"only quoted text, numbers and names can be checked ({what})")
    else:
        more_lost, more_unsure = _added(wanted, given, context, read(direction, thesaurus) if direction else None)
        lost += more_lost + _twins_swapped(wanted, given) + ([] if direction else _weather(wanted, given))
        unsure += more_unsure
    if facts.cut or given.surface.cut:
        unsure.append("too long to be read to its end")
    lost, unsure = list(dict.fromkeys(lost)), list(dict.fromkeys(unsure))
    return Verdict(LOST if lost else UNSURE if unsure else KEPT, tuple(lost), tuple(unsure))


def _said(quoted: str, original: str) -> bool:
    return " ".join(quoted.casefold().split()) in " ".join(original.casefold().replace("’", "'").split())


def _foreign_numbers(wanted: Reading, given: Reading) -> list[str]:
    """Numbers that were replaced by others. A number word that is only gone may have become a plural or a pair."""
    asked, told = numbers_in(wanted.surface.text) - {1}, numbers_in(given.surface.text) - {1}
    digits = set(wanted.surface.numbers)
    return [f"number {n}" for n in sorted(asked - told) if told - asked or n in digits]


def _added(
    wanted: Reading, given: Reading, context: Context, wish: Reading | None = None
) -> tuple[list[str], list[str]]:
    """What came in, surely and perhaps; `wish` is what a person's direction asks for."""
    lost: list[str] = []
    unsure: list[str] = []
    original = list({(m.head, tuple(m.of)): as_thing(m) for m in wanted.mentions}.values())
    for index, mention in enumerate(given.mentions[:MOST]):
        if mention.negated or mention.soft or mention.part_of_count or _is_known(mention, wanted, original):
            continue
        if mention.head in wanted.surface.text.lower().split():
            continue
        sorts = known_words().sorts.get(mention.head, set())
        if wish and (sorts & {"place", "surface"} or mention.head in _SKY or _named(mention, wish)):
            continue
        owned = any(index in x.rights and x.name in ("with", "of") for x in given.links)
        holds = any(
            index in x.lefts and x.name == "of" and _any_known(x.rights, given, wanted, original) for x in given.links
        )
        bears = mention.head in _TEXT_BEARERS and bool(wanted.surface.quoted)
        compound = any(w in wanted.words for w in mention.of) or holds or bears
        compound = compound or any(mention.head in parted(w) for w in wanted.words if mention.head in w)
        compound = compound or mention.head in _SKY or ("person" in sorts and bool(_ANYBODY & wanted.words))
        if compound or sorts & {"place", "surface"} or ("part" in sorts and owned) or not _counts(mention, sorts):
            unsure.append(f"added {mention.head}")
        else:
            lost.append(f"added {mention.head}")
    more_lost, more_unsure = _added_deeds(wanted, given, context)
    lost += more_lost
    unsure += more_unsure
    for head in dict.fromkeys(t.head for t in context.things):
        have = [m for m in given.things()[:MOST] if m.head == head and not m.part_of_count]
        asked = [as_thing(m) for m in wanted.things()[:MOST] if m.head == head and not m.part_of_count]
        asked = asked or [t for t in context.things if t.head == head]
        if len(have) > len(asked) and _too_many(have, asked):
            lost.append(f"one {head} too many")
    return lost, unsure


_WEATHERS = {
    "rain": {"rain", "rainy", "raining", "rainfall", "drizzle", "downpour", "storm", "stormy", "thunderstorm"},
    "snow": {"snow", "snowy", "snowing", "snowfall", "snowstorm", "blizzard"},
    "fog": {"fog", "foggy", "mist", "misty", "haze", "hazy", "smog"},
    "sun": {"sun", "sunny", "sunshine", "sunlight", "sunlit", "sunbeam", "sunray"},
}


def _weather(wanted: Reading, given: Reading) -> list[str]:
    """Weather that another came for. What only came in is style."""
    asked, told = ({n for n, words in _WEATHERS.items() if words & r.words} for r in (wanted, given))
    gone, came = asked - told, told - asked
    return [f"weather {sorted(gone)[0]} (it became {sorted(came)[0]})"] if gone and came else []


def _twins_swapped(wanted: Reading, given: Reading) -> list[str]:
    """Two things of one name, told apart by what they have, of which each does or is now what the other did or was."""
    now = _twins(given)
    lost = []
    for link, mine, theirs in _twins(wanted):
        for other, one, two in now:
            alike = link.name == other.name or (link.kind == "action" and same_verb(link.name, other.name))
            if link.kind != other.kind or not alike or link.name in ("with", "of", "is", "next"):
                continue
            if mine & two and theirs & one and not (mine & one or theirs & two):
                head = wanted.mentions[link.lefts[0]].head
                lost.append(f"{head} {link.name} {head} (the two are swapped)")
    return lost


def _twins(reading: Reading) -> list[tuple[Link, set[str], set[str]]]:
    """Links between two things of one name, with what tells the left one from the right one, and the other way round."""
    found = []
    for link in reading.links[:MOST]:
        ends = [s[0] for s in (link.lefts, link.rights) if s]
        if len(ends) < 2 or ends[0] == ends[1] or link.negated:
            continue
        if reading.mentions[ends[0]].head == reading.mentions[ends[1]].head:
            one, other = ({*reading.mentions[i].values(), *_had(i, reading)} for i in ends)
            if one != other:
                found.append((link, one - other, other - one))
    return found


def _had(index: int, reading: Reading) -> set[str]:
    found: set[str] = set()
    for link in reading.links[:MOST]:
        if link.name in ("with", "in", "wear", "hold", "carry") and index in link.lefts:
            for mention in (reading.mentions[i] for i in link.rights):
                found |= {f"{value} {mention.head}" for value in mention.values() or {""}}
    return found


def _added_deeds(wanted: Reading, given: Reading, context: Context) -> tuple[list[str], list[str]]:
    """What a thing does to another in the rewrite, and did not in the prompt."""
    lost: list[str] = []
    unsure: list[str] = []
    words = known_words()
    for link in given.links[:MOST]:
        if link.kind != "action" or link.negated or link.name not in words.transitive or link.name in _HARMLESS:
            continue
        if stem(link.name) in wanted.stems or any(
            same_verb(link.name, x.name) for x in wanted.links if x.kind == "action"
        ):
            continue
        for left, right in ((i, j) for i in link.lefts for j in link.rights):
            one, other = given.mentions[left], given.mentions[right]
            if not (_asked_for(one, context) and _asked_for(other, context)):
                continue
            text = f"added {one.head} {link.name} {other.head}"
            related = any(
                {m.head for m in (wanted.mentions[i] for i in x.left())} & {one.head, other.head}
                and {m.head for m in (wanted.mentions[i] for i in x.right())} & {one.head, other.head}
                for x in wanted.links
                if x.name in ("as", "next", "behind", "front", "left", "right", "above", "below", "look")
            )
            (lost if related else unsure).append(text)
    return lost, unsure


def _named(mention: Mention, wish: Reading) -> bool:
    return (
        bool({mention.head, mention.word, *mention.head.split()[-1:]} & wish.words) or stem(mention.head) in wish.stems
    )


def _asked_for(mention: Mention, context: Context) -> bool:
    return any(fits(t, mention) == 2 for t in context.things)


def _any_known(indexes: list[int], given: Reading, wanted: Reading, original: list[Thing]) -> bool:
    return any(_is_known(given.mentions[i], wanted, original) for i in indexes)


def _is_known(mention: Mention, wanted: Reading, original: list[Thing]) -> bool:
    if any(fits(t, mention) for t in original):
        return True
    words = {mention.head, *mention.head.split()[-1:]}
    return bool(words & wanted.words) or stem(mention.head) in wanted.stems or mention.word in wanted.words


def _counts(mention: Mention, sorts: set[str]) -> bool:
    """Is this surely a thing? Words that the lists don't know are, where they are counted or have an article."""
    if sorts & {"person", "animal", "object", "food"}:
        return True
    return mention.count is not None or (mention.plural and not mention.listed and mention.determined)


def _too_many(have: list[Mention], asked: list[Thing]) -> bool:
    """Is there a mention that is like none of those asked for?"""
    exclusive = known_words().exclusive
    for mention in have:
        clash = 0
        for thing in asked:
            mine = {(c, v) for c, v in mention.attributes if c in exclusive}
            theirs = {(c, v) for c, v in thing.attributes if c in exclusive}
            clash += any(c == d and v != w and (c, v) not in theirs for c, v in mine for d, w in theirs)
        if clash == len(asked):
            return True
    counted = all(m.count is not None for m in have) and all(t.count is not None for t in asked)
    return counted and sum(m.count or 0 for m in have) > sum(t.count or 0 for t in asked)


__all__ = ["Fact", "Facts", "Verdict", "compare", "facts_of", "fits_each"]
