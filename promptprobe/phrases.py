"""Take a prompt apart: noun phrases with their counts and colours, spatial relations, quoted text, names.

A small rule-based reading. It knows common English function words, numbers and colours; everything else is taken as it
is. What means the same in one model's world, and only there, comes in as a `Thesaurus`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .words import BOUNDARY, COLOURS, FILLER, ING_NOUNS, NUMBERS, SPELLINGS, THING_COLOURS

_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_SPELLED = [(re.compile(rf"(?<![\w@]){re.escape(p)}(?!\w)"), f" @{m} " if isinstance(m, str) else f" {m} ")
            for p, m in sorted(SPELLINGS.items(), key=lambda pair: -len(pair[0]))]  # fmt: skip
_QUOTED = r"[\"“”]([^\"“”]+)[\"“”]"


@dataclass(frozen=True)
class Thesaurus:
    """A world's own names for things: any form of a noun -> its name in the singular, a colour word -> the colour's
    name, a name -> its plural."""

    nouns: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    plurals: Mapping[str, str] = field(default_factory=dict)

    def noun(self, word: str) -> str:
        """The name of a noun in the singular; of one that it doesn't know, the word without a plural s."""
        one = singular(word)
        return self.nouns.get(word) or self.nouns.get(one, one)

    def plural(self, name: str) -> str:
        """The plural of a name."""
        return self.plurals.get(name, name + "s")


ENGLISH = Thesaurus(colours={"grey": "gray"})  # no synonyms


@dataclass
class Phrase:
    """A thing to be seen. `head` is singular and canonical; `count` is None where the prompt gives none.

    `others` are the further nouns and adjectives of the phrase, singular too.
    """

    head: str
    count: int | None = None
    colours: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


@dataclass
class Reading:
    """A prompt taken apart. `relations` are (head, relation, head) with left, right, above, below; `sides` all of these."""

    phrases: list[Phrase]
    relations: list[tuple[str, str, str]]
    sides: list[str]
    background: str | None
    quoted: list[str]
    names: list[str]


def singular(word: str) -> str:
    """A noun without its plural s."""
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + replacement
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def words_of(prompt: str) -> list[str]:
    """The words and marks of a prompt in lower case, without quoted text; relations as @left, @right, @above, @below,
    spelled-out numbers as digits."""
    text = re.sub(_QUOTED, " , ", prompt).lower()
    for pattern, token in _SPELLED:
        text = pattern.sub(token, text)
    return re.findall(r"@?\w[\w'’-]*|[.,;:()!?]", text)


def read_prompt(prompt: str, thesaurus: Thesaurus = ENGLISH) -> Reading:
    """Take a prompt apart; nouns and colours get the names that `thesaurus` has for them."""
    phrases: list[Phrase] = []
    sides: list[tuple[int, str]] = []  # (number of phrases before it, relation)
    background: str | None = None
    count: int | None = None
    colours: list[str] = []
    nouns: list[str] = []
    near_background = False
    opener = ""  # the word before the phrase

    def names(of: list[str]) -> list[str]:
        return [thesaurus.colours.get(c, c) for c in of]

    def close() -> None:
        nonlocal count, background, near_background
        if near_background:
            background = names(colours)[-1] if colours else background
            near_background = not colours
        elif nouns or (colours and colours[-1] in THING_COLOURS and (count is not None or opener == "the")):
            things = nouns or [colours.pop()]
            others = {thesaurus.noun(n) for n in things[:-1]}
            phrases.append(Phrase(thesaurus.noun(things[-1]), count, set(names(colours)), others))
        elif phrases and (colours or count is not None):
            # "cars, red, two of them": what stands alone belongs to the thing before it.
            last = phrases[-1]
            last.colours |= set(names(colours))
            last.count = count if last.count in (None, 1) and count is not None else last.count
        count = None
        colours.clear()
        nouns.clear()

    for word in words_of(prompt):
        if word.startswith("@"):
            close()
            near_background = False
            sides.append((len(phrases), word[1:]))
            opener = ""
        elif word in ("background", "backdrop"):
            if opener in ("on", "against") or (colours and not nouns):
                # "on a dark blue background": what stands before it says how it looks, and is nothing on it.
                background = names(colours)[-1] if colours else background
                colours.clear()
                nouns.clear()
                count = None
            else:
                close()
                near_background = True
        elif word in ("a", "an"):
            close()
            count = 1
        elif word in NUMBERS or word.isdigit():
            if nouns or colours:
                close()
            count = NUMBERS.get(word) or int(word[:6])
        elif word in thesaurus.colours or word in COLOURS or word in THING_COLOURS:
            colours.append(word)
        elif is_boundary(word, thesaurus):
            if word in ".;" or nouns or colours or count is None or not word[0].isalnum():
                close()
            if word in ".;":
                near_background = False
            opener = word
        else:
            nouns.append(word)
    close()
    relations = [(phrases[i - 1].head, side, phrases[i].head) for i, side in sides if 0 < i < len(phrases)]
    unquoted = re.sub(_QUOTED, " ", prompt)
    return Reading(
        phrases, relations, [side for _, side in sides], background, re.findall(_QUOTED, prompt), _names(unquoted)
    )


def is_boundary(word: str, thesaurus: Thesaurus = ENGLISH) -> bool:
    """True for a mark, and a word that names nothing one could see; a form of a verb too."""
    return word in BOUNDARY or word in FILLER or not word[0].isalnum() or _is_verb(word, thesaurus)


def _is_verb(word: str, thesaurus: Thesaurus) -> bool:
    known = word in thesaurus.nouns or singular(word) in ING_NOUNS
    return word.endswith("ing") and len(word) > 4 and not known


def opposite(relation: tuple[str, str, str]) -> tuple[str, str, str]:
    """The same relation told from the other side."""
    first, side, second = relation
    return second, _OPPOSITE[side], first


def _names(prompt: str) -> list[str]:
    """Capitalised words inside sentences; none when every word is capitalised."""
    words = list(re.finditer(r"[^\W\d_][\w'’-]*", prompt))
    if not words or sum(w.group()[0].isupper() for w in words) > 0.6 * len(words):
        return []
    return [
        w.group()
        for w in words
        if w.group()[0].isupper() and w.group() != "I" and re.search(r"[\w,]\s+$", prompt[: w.start()])
    ]
