"""What a prompt shows, by a rule-based reading of its English: things, what they are like, how they lie, who does what.

Comes in: a prompt. Goes out: a `Reading` of mentions and links. One pass over the tokens, so the time is linear. Where
English leaves open what belongs to what, a link keeps the second-best readings beside the best ("maybe").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .facts_text import Surface
from .facts_words import known_words


@dataclass
class Mention:
    """A thing of the picture. `of` are the other nouns of its phrase; `attributes` are (class, value)."""

    head: str
    word: str
    of: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    count: int | None = None
    plural: bool = False
    definite: bool = False
    determined: bool = False
    negated: bool = False
    part_of_count: bool = False  # "one of them": says nothing of how many there are
    listed: bool = False
    soft: bool = False
    sentence: int = 0
    places: set[str] = field(default_factory=set)
    above: list[int] = field(default_factory=list)  # mentions that this one hangs on: "a cat with a *hat*"
    beside: list[int] = field(default_factory=list)  # joined by "and" to these

    def values(self) -> set[str]:
        """What it is like, without the classes."""
        return {value for _, value in self.attributes}


@dataclass
class Link:
    """How mentions hang together: `name` is a relation, "with", "of", "is", or the verb of an action."""

    kind: str  # relation or action
    name: str
    lefts: list[int] = field(default_factory=list)
    rights: list[int] = field(default_factory=list)
    maybe_lefts: list[int] = field(default_factory=list)
    maybe_rights: list[int] = field(default_factory=list)
    negated: bool = False
    passive: bool = False

    def left(self) -> list[int]:
        return [*self.lefts, *self.maybe_lefts]

    def right(self) -> list[int]:
        return [*self.rights, *self.maybe_rights]


@dataclass
class Reading:
    """A prompt taken apart. `scene` are (section, name) of style, view and time; `words` all its lower-case words."""

    surface: Surface
    mentions: list[Mention] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    scene: list[tuple[str, str]] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)  # verbs and attributes that are said not to be
    words: set[str] = field(default_factory=set)
    stems: set[str] = field(default_factory=set)
    forms: dict[str, list[int]] = field(default_factory=dict)  # every form that a mention may have -> where

    def things(self) -> list[Mention]:
        """What is said to be there."""
        return [m for m in self.mentions if not m.negated]


def joined(mention_head: str, of: list[str] | tuple[str, ...]) -> set[str]:
    """The forms under which a compound may be written: "top hat", "tophat", and the head alone."""
    forms = {mention_head, mention_head.replace(" ", "")}
    if of:
        whole = f"{of[-1]} {mention_head}"
        closed = whole.replace(" ", "")
        forms |= {closed, known_words().nouns.get(whole, whole), known_words().nouns.get(closed, closed)}
    return forms
