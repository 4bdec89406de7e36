"""The words of an English prompt, each with every reading that the word lists give it.

Comes in: the text of a `Surface`. Goes out: a list of `Token`; which of its readings a word has here is the reader's
decision. Phrases of several words ("in front of", "fire hydrant", "oil painting") are one token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .facts_text import tokens_of
from .facts_words import is_plural, known_words, noun

_PRINTED = {"photo", "photograph", "photography", "portrait", "picture", "image", "film", "drawing", "shot", "style"}
_MAKING = {"made", "built", "carved", "crafted", "constructed", "composed", "woven", "fashioned", "sculpted", "formed"}


@dataclass
class Token:
    """One word or phrase. `kind` says what small word it is; a "word" has readings: noun, attributes, verb forms."""

    text: str
    low: str
    kind: str
    value: str = ""  # the relation, the scene word, the number
    section: str = ""  # of the relation or scene word
    noun: str = ""  # canonical, for words
    listed: bool = False  # is the noun in the lists?
    plural: bool = False
    attributes: list[tuple[str, str]] = field(default_factory=list)
    verbs: dict[str, str] = field(default_factory=dict)  # form name -> base


def read_tokens(text: str, thesaurus: Mapping[str, str] | None = None) -> list[Token]:
    """The tokens of `text`; synonyms of `thesaurus` (word -> canonical word) come first, the lists after them."""
    raw = tokens_of(text.replace("§", " quotedtext "))
    low = [w.lower() for w in raw]
    known = known_words()
    spoken = {tuple(k.split()) for k in thesaurus if " " in k} if thesaurus else set()
    tokens: list[Token] = []
    at = 0
    while at < len(raw):
        size = _phrase_size(low, at, spoken)
        word = " ".join(low[at : at + size])
        before = tokens[-1] if tokens else None
        after = low[at + size] if at + size < len(low) else ""
        if word == "black and white" and not _is_tone(before, after):
            size, word = 1, "black"
        token = _small(raw[at], word, before, after) if size == 1 else None
        if size == 1 and word in _MAKING and after in ("of", "from", "out"):
            token = Token(raw[at], word, "made")
            size = 3 if after == "out" and low[at + 2 : at + 3] == ["of"] else 2 if after != "out" else 1
        elif word in ("in the shape of", "in the form of", "shaped like", "in shape of"):
            token = Token(word, word, "shaped")
        if token is None and word in known.relations:
            section, name = known.relations[word]
            token = Token(word, word, "relation", name, section)
        if token is None and word in known.scene and not _is_thing(word, before, known.nouns, known.verbs):
            section, name = known.scene[word]
            token = Token(word, word, "scene", name, section)
        if token is None and (word == "shaped" or word in ("colored", "coloured")) and before and before.kind == "word":
            if word == "shaped":
                before.attributes = [("shape", _shape(before.low))]
                before.noun, before.verbs, before.plural = "", {}, False
            at += size
            continue
        tokens.append(token or _word(" ".join(raw[at : at + size]), word, thesaurus))
        at += size
    return tokens


def _phrase_size(low: list[str], at: int, spoken: set[tuple[str, ...]]) -> int:
    for size in range(min(4, len(low) - at), 1, -1):
        if spoken and tuple(low[at : at + size]) in spoken:
            return size
    if low[at : at + 4] == ["in", "the", "shape", "of"] or low[at : at + 4] == ["in", "the", "form", "of"]:
        return 4
    if low[at : at + 2] == ["shaped", "like"]:
        return 2
    if low[at : at + 3] == ["in", "shape", "of"]:
        return 3
    for parts in known_words().phrases.get(low[at], ()):
        if tuple(low[at : at + len(parts)]) == parts:
            return len(parts)
    # Plural phrases whose first word is regular: "fire hydrants", "bow ties".
    if at + 1 < len(low):
        for size in (3, 2):
            if " ".join(low[at : at + size]) in known_words().plurals:
                return min(size, len(low) - at)
    return 1


def _small(text: str, low: str, before: Token | None, after: str) -> Token | None:
    """The token of a small word, a number or punctuation; None for others."""
    function = known_words().function
    if low in (".", ";", "!", "?", "\n", "|"):
        return Token(text, low, "stop")
    if low in (",", ":", "/"):
        return Token(text, low, "comma" if low != ":" else "colon")
    if low in ("(", ")"):
        return Token(text, low, "comma")
    if low == "quotedtext":
        return Token(text, low, "quote")
    if low == "'s":
        pronoun = before is not None and (before.kind == "pronoun" or before.low in ("there", "here", "that", "who"))
        return Token(text, low, "be" if pronoun else "possessive")
    if low.isdecimal() and len(low) <= 6:
        return Token(text, low, "number", str(int(low)))
    if low == "her" and (not after or after in function["and"] | {"a", "an", "the"} or not after.isalnum()):
        return Token(text, low, "pronoun")
    if low in function["negation"]:
        return Token(text, low, "negation")
    if low == "pair" or low in function["of"]:
        if after == "of":
            return Token(text, low, "part", str(known_words().numbers.get(low, 0)))
        if low in ("couple", "piece", "school", "kind", "line", "type", "sort", "set", "pack"):
            return None
    if low in known_words().numbers and low not in ("couple", "pair", "twins"):
        return Token(text, low, "number", str(known_words().numbers[low]))
    for kind, section in (
        ("determiner", "determiner"), ("pronoun", "pronoun"), ("relative", "relative"), ("and", "and"),
        ("clause", "clause"), ("be", "be"), ("many", "many"),
    ):  # fmt: skip
        if low in function[section]:
            if low == "that" and before is not None and before.kind in ("word", "quote"):
                return Token(text, low, "relative")
            if low == "as" and before is not None and before.kind == "word" and before.verbs:
                return Token(text, low, "relation", "as", "weak")
            return Token(text, low, kind)
    if low in known_words().relations:
        return None
    if low in function["filler"] and low not in ("image", "picture", "like", "light"):
        begins = before is None or before.kind in ("filler", "pronoun")
        if begins or low not in ("paint", "draw", "create", "make", "show", "shows", "showing", "see", "give"):
            return Token(text, low, "filler")
    if low == "like":
        return Token(text, low, "relation", "as", "weak")
    return None


def _word(text: str, low: str, thesaurus: Mapping[str, str] | None) -> Token:
    known = known_words()
    verbs: dict[str, str] = {}
    for base, form in known.verbs.get(low, ()):
        verbs.setdefault(form, base)
    if not verbs and low.endswith("ing") and len(low) > 5 and low not in known.nouns:
        verbs = {"ing": low[:-3]}
    elif not verbs and low.endswith("ed") and len(low) > 4 and low not in known.nouns:
        verbs = {"past": low[:-2]}
    if not verbs and low.endswith("s") and len(low) > 4 and low not in known.nouns and noun(low) not in known.sorts:
        verbs = {"third": low[:-1]}
    attributes = list(known.attributes.get(low, ()))
    if "ing" in verbs:
        attributes = [pair for pair in attributes if pair[0] not in ("state", "vague")]
    if thesaurus and low in thesaurus and thesaurus[low] in known.attributes:
        attributes = [pair for pair in known.attributes[thesaurus[low]] if pair[0] == "colour"]
    thing = noun(low, thesaurus)
    one = low in known.nouns or thing in known.nouns
    return Token(text, low, "word", noun=thing, listed=one, plural=is_plural(low), attributes=attributes, verbs=verbs)


def _shape(low: str) -> str:
    return next((value for name, value in known_words().attributes.get(low, ()) if name == "shape"), noun(low))


def _is_tone(before: Token | None, after: str) -> bool:
    alone = (before is None or before.kind in ("comma", "stop")) and after in ("", ",", ".", ";")
    return alone or after in _PRINTED


def _is_thing(word: str, before: Token | None, nouns: dict[str, str], verbs: dict) -> bool:
    """Is this scene word the name of a thing here ("a pencil", "two comics")?"""
    if " " in word or not (word in nouns or word in verbs) or before is None:
        return False
    return before.kind in ("determiner", "number", "many", "possessive") and word not in (
        "photo",
        "photograph",
        "night",
    )
