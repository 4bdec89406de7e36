"""The facts of a prompt: what a person asked for, one by one, to be shown, edited, pinned and looked for in a rewrite.

Comes in: a prompt. Goes out: `Facts`, frozen, to and from plain dicts. `check` looks for one fact in a text, `compare`
(in `facts_compare`) for all of them and for what was added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from .facts_parser import read
from .facts_reading import Link, Mention, Reading
from .facts_words import known_words

KINDS = ("text", "name", "code", "object", "count", "attribute", "relation", "action", "place", "absence", "style",
         "number", "tag")  # fmt: skip
MOST = 300  # facts of one prompt; a page of text has fewer
_SPEAKING = {
    "say",
    "read",
    "spell",
    "write",
    "print",
    "title",
    "label",
    "name",
    "inscribe",
    "letter",
    "show",
    "display",
}
_SPELT = {"front": "in front of", "left": "left of", "right": "right of", "next": "next to", "with": "with"}
_ARTICLE = {1: "one"}


@dataclass(frozen=True)
class Thing:
    """A thing as a prompt describes it: canonical head, other nouns of its phrase, (class, value) pairs, count."""

    head: str
    of: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    count: int | None = None
    plural: bool = False
    listed: bool = True  # is the head in the word lists?

    def __str__(self) -> str:
        values = [value for name, value in self.attributes if name != "doing"]
        return " ".join([*values, *self.of, self.head])


@dataclass(frozen=True)
class Fact:
    """One thing that was asked for. `text` is for people; `value` the attribute, relation, verb, quoted text or name.

    `sort` is the attribute's class or the section of a style; `maybe` are other things that `thing` may stand for.
    """

    kind: str
    text: str
    value: str = ""
    sort: str = ""
    thing: Thing | None = None
    other: Thing | None = None
    maybe: tuple[Thing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fact:
        """From what `to_dict` gave, or what a person wrote: kind and text are enough for a text, name or tag."""
        kind, text = str(values.get("kind", "object")), str(values.get("text", ""))
        return cls(
            kind if kind in KINDS else "object",
            text,
            str(values.get("value") or text),
            str(values.get("sort", "")),
            _thing(values.get("thing")) or (Thing(text) if kind == "object" else None),
            _thing(values.get("other")),
            tuple(t for t in map(_thing, values.get("maybe") or ()) if t),
        )


@dataclass(frozen=True)
class Facts:
    """All that was found in a prompt. Of a language that can't be read only texts, names and numbers are known."""

    prompt: str
    facts: tuple[Fact, ...] = ()
    language: str = "english"
    cut: bool = False  # the prompt was longer than what is read

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Facts:
        """From what `to_dict` gave."""
        facts = tuple(Fact.from_dict(f) for f in values.get("facts", ()))
        return cls(
            str(values.get("prompt", "")), facts, str(values.get("language", "english")), bool(values.get("cut"))
        )

    def texts(self) -> list[str]:
        """One readable line a fact."""
        return [fact.text for fact in self.facts]


def facts_of(prompt: str, thesaurus: Mapping[str, str] | None = None) -> Facts:
    """The facts of a prompt. `thesaurus` maps a world's synonyms and their plurals to its own words ("feline": "cat")."""
    return facts_of_read(prompt, read(prompt, thesaurus))


def facts_of_read(prompt: str, reading: Reading) -> Facts:
    """The facts of a prompt that has been read; at most `MOST` of them."""
    seen = reading.surface
    facts = [Fact("text", f'text "{q}"', q) for q in seen.quoted]
    facts += [Fact("name", f"name {n}", n) for n in seen.names]
    facts += [Fact("code", f"word {c}", c) for c in seen.codes]
    facts += [Fact("number", f"number {n}", str(n)) for n in _bare_numbers(reading)]
    if seen.language == "english":
        facts += facts_of_reading(reading)
    facts += [Fact("tag", f"tag {t}", t) for t in seen.tags]
    facts = list(dict.fromkeys(facts))
    return Facts(prompt, tuple(facts[:MOST]), seen.language, seen.cut or len(facts) > MOST)


def facts_of_reading(reading: Reading) -> list[Fact]:
    """Objects, counts, attributes, relations, actions, places, absences and style of a reading."""
    facts: list[Fact] = []
    for mention in reading.mentions:
        if mention.negated:
            facts.append(Fact("absence", f"no {mention.head}", mention.head, "thing", thing=as_thing(mention)))
        elif mention.head == "background":
            for name, value in mention.attributes:
                thing = Thing("background", attributes=((name, value),))
                facts.append(Fact("attribute", f"{value} background", value, name, thing))
        elif not mention.soft:
            facts += _of_thing(mention)
    facts += [Fact("absence", f"not {word}", word, "doing") for word in dict.fromkeys(reading.lacking)]
    for link in reading.links:
        facts += _of_link(link, reading)
    for mention in reading.things():
        if not mention.soft:
            facts += [
                Fact("place", f"{mention.head} {place}", place, thing=as_thing(mention))
                for place in sorted(mention.places)
            ]
    for section, name in dict.fromkeys(reading.scene):
        if section != "quality":
            facts.append(Fact("style", f"{section} {name}", name, section))
    return facts


def as_thing(mention: Mention) -> Thing:
    """A mention as a frozen value."""
    return Thing(
        mention.head, tuple(mention.of), tuple(mention.attributes), mention.count, mention.plural, mention.listed
    )  # fmt: skip


def _of_thing(mention: Mention) -> list[Fact]:
    thing = as_thing(mention)
    facts = [Fact("object", mention.head, mention.head, thing=thing)]
    if mention.part_of_count:
        facts = [Fact("count", f"{mention.count} of the {mention.head}", str(mention.count or 1), "part", thing)]
    elif mention.count is not None:
        facts.append(
            Fact(
                "count", f"{_ARTICLE.get(mention.count, mention.count)} {mention.head}", str(mention.count), thing=thing
            )
        )
    elif mention.plural:
        facts.append(Fact("count", f"several {mention.head}", "several", thing=thing))
    for name, value in mention.attributes:
        if name == "doing":
            facts.append(Fact("action", f"{mention.head}: {value}", value, thing=thing))
        else:
            facts.append(Fact("attribute", f"{value} {mention.head}", value, name, thing))
    facts += [Fact("attribute", f"{word} {mention.head}", word, "kind", thing) for word in mention.of]
    return facts


def _of_link(link: Link, reading: Reading) -> list[Fact]:
    facts: list[Fact] = []
    if link.negated:
        if link.kind == "action" and not link.rights:
            return [Fact("absence", f"not {link.name}", link.name, "doing")]
        if link.kind == "relation" and link.lefts and link.rights:
            one, other = reading.mentions[link.lefts[0]], reading.mentions[link.rights[0]]
            text = f"{one.head} not {_SPELT.get(link.name, link.name)} {other.head}"
            facts.append(Fact("absence", text, link.name, "relation", as_thing(one), as_thing(other)))
        return facts
    lefts = [reading.mentions[i] for i in link.lefts]
    rights = [reading.mentions[i] for i in link.rights]
    maybe = tuple(as_thing(reading.mentions[i]) for i in link.maybe_lefts if not reading.mentions[i].negated)
    if link.kind == "action" and link.name in _SPEAKING and not link.rights and reading.surface.quoted:
        return facts  # "a sign that says": the text is a fact of its own
    if link.kind == "action":
        for left in lefts or [None]:  # type: ignore[list-item]
            for right in rights or [None]:  # type: ignore[list-item]
                if (left is None and right is None) or (left and left.negated) or (right and right.negated):
                    continue
                text = " ".join(filter(None, [left.head if left else "", link.name, right.head if right else ""]))
                text = text if left else f"{right.head} {_participle(link.name)}" if right else text
                facts.append(
                    Fact(
                        "action",
                        text,
                        link.name,
                        "",
                        as_thing(left) if left else None,
                        as_thing(right) if right else None,
                        maybe,
                    )
                )
        return facts
    if link.name in ("is", "as", "for", "about"):
        return facts
    for left in lefts:
        for right in rights:
            if left.soft or right.soft or left.negated or right.negated or left is right:
                continue
            text = f"{left.head} {_SPELT.get(link.name, link.name)} {right.head}"
            facts.append(Fact("relation", text, link.name, "", as_thing(left), as_thing(right), maybe))
    return facts


def _participle(verb: str) -> str:
    """ "raised" of "raise", "held" of "hold"."""
    forms = _participles().get(verb, ())
    return next(iter(forms), verb + ("d" if verb.endswith("e") else "ed"))


@lru_cache(maxsize=1)
def _participles() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in ("participle", "past"):
        for form, readings in known_words().verbs.items():
            for base, kind in readings:
                if kind == name:
                    found.setdefault(base, []).append(form)
    return found


def _bare_numbers(reading: Reading) -> list[int]:
    """Digits that count nothing that is known: they must be found again, in digits or in words."""
    counted = {m.count for m in reading.mentions}
    return [n for n in reading.surface.numbers if n not in counted and n != 1]


def _thing(values: Any) -> Thing | None:
    if not isinstance(values, Mapping) or not values.get("head"):
        return None
    pairs = [p for p in values.get("attributes") or () if isinstance(p, (list, tuple)) and len(p) == 2]
    count = values.get("count")
    return Thing(
        str(values["head"]),
        tuple(map(str, values.get("of") or ())),
        tuple((str(c), str(v)) for c, v in pairs),
        count if isinstance(count, int) else None,
        bool(values.get("plural")),
        bool(values.get("listed", values["head"] in known_words().nouns)),
    )
