"""Take a prompt apart: noun phrases with their counts and colours, spatial relations, quoted text, names.

A small rule-based reading, the same for the intent guard and the offline rewriter. It knows common English function
words, numbers and colours, and the icon world's synonyms; everything else is taken as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .icons.captions import BACKGROUND_WORDS, COLOUR_WORDS, COUNT_WORDS, OBJECT_WORDS, RELATION_WORDS, plural
from .words import FUNCTION_WORDS

# Words around a description that name nothing in the picture.
FILLER = frozenset(
    [
        "picture",
        "image",
        "photo",
        "photograph",
        "illustration",
        "painting",
        "drawing",
        "poster",
        "wallpaper",
        "render",
        "scene",
        "art",
        "artwork",
        "draw",
        "paint",
        "show",
        "showing",
        "shows",
        "imagine",
        "create",
        "generate",
        "make",
        "made",
        "give",
        "beautiful",
        "lovely",
        "nice",
        "pretty",
        "gorgeous",
        "stunning",
        "amazing",
        "little",
        "very",
        "really",
        "highly",
        "extremely",
        "detailed",
        "quality",
        "best",
        "masterpiece",
        "trending",
        "artstation",
        "hd",
        "uhd",
        "4k",
        "8k",
        "sharp",
        "crisp",
        "edges",
        "simple",
        "clean",
        "minimalist",
        "minimal",
        "calm",
        "flat",
        "style",
        "nothing",
        "else",
        "frame",
        "them",
        "it",
        "each",
        "total",
        "background",
        "backdrop",
    ]
)
_BOUNDARY = FUNCTION_WORDS | frozenset(
    [
        "then",
        "also",
        "says",
        "say",
        "reads",
        "rides",
        "holds",
        "wears",
        "sits",
        "stands",
        "carries",
        "has",
        "have",
        "looks",
        "walks",
        "runs",
        "plays",
        "eats",
        "made",
        "her",
        "his",
        "their",
    ]
)
_ING_NOUNS = frozenset(
    [
        "building",
        "ring",
        "king",
        "wing",
        "spring",
        "string",
        "ceiling",
        "evening",
        "morning",
        "clothing",
        "lightning",
        "earring",
        "wedding",
        "thing",
        "sling",
        "swing",
        "sibling",
        "duckling",
        "pudding",
    ]
)
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12,
}  # fmt: skip
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _reverse(table: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> dict[str, str]:
    return {word: name for name, (met, never) in table.items() for word in (name, *met, *never)}


_COLOURS = (
    _reverse(COLOUR_WORDS) | _reverse(BACKGROUND_WORDS) | {"silver": "silver", "teal": "teal", "turquoise": "turquoise"}
)
_NOUNS = {form: name for word, name in _reverse(OBJECT_WORDS).items() for form in (word, plural(word))}
_SPELLINGS: list[tuple[str, str]] = sorted(
    [
        (phrase, f" @{name.split()[0]} ")
        for name, groups in RELATION_WORDS.items()
        for group in groups
        for phrase in group
    ]
    + [("on top of", " @above "), ("a dozen", " 12 ")]
    + [(phrase, f" {n} ") for n, groups in COUNT_WORDS.items() for group in groups[1:] for phrase in group],
    key=lambda pair: -len(pair[0]),
)  # fmt: skip


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
    """The canonical singular of a noun: the icon world's word for its synonyms, else the word without a plural s."""
    if word in _NOUNS:
        return _NOUNS[word]
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + replacement
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def read_prompt(prompt: str) -> Reading:
    """Take a prompt apart."""
    quoted = re.findall(r"[\"“”]([^\"“”]+)[\"“”]", prompt)
    names = _names(re.sub(r"[\"“”][^\"“”]*[\"“”]", " ", prompt))
    text = re.sub(r"[\"“”][^\"“”]*[\"“”]", " , ", prompt).lower()
    for phrase, token in _SPELLINGS:
        text = re.sub(rf"(?<![\w@]){re.escape(phrase)}(?!\w)", token, text)
    words = re.findall(r"@?\w[\w'’-]*|[.,;:()!?]", text)
    phrases: list[Phrase] = []
    sides: list[tuple[int, str]] = []  # (number of phrases before it, relation)
    background: str | None = None
    count: int | None = None
    colours: list[str] = []
    nouns: list[str] = []
    near_background = False

    def close() -> None:
        nonlocal count, background, near_background
        if near_background:
            background = colours[-1] if colours else background
            near_background = not colours
        elif nouns:
            phrases.append(Phrase(singular(nouns[-1]), count, set(colours), {singular(n) for n in nouns[:-1]}))
        elif phrases and (colours or count is not None):
            # "cars, red, two of them": what stands alone belongs to the thing before it.
            last = phrases[-1]
            last.colours |= set(colours)
            last.count = count if last.count in (None, 1) and count is not None else last.count
        count = None
        colours.clear()
        nouns.clear()

    for word in words:
        if word.startswith("@"):
            close()
            near_background = False
            sides.append((len(phrases), word[1:]))
        elif word in ("background", "backdrop"):
            if colours and not nouns:
                background = colours[-1]
                colours.clear()
                count = None
            else:
                close()
                near_background = True
        elif word in ("a", "an"):
            close()
            count = 1
        elif word in _NUMBERS or word.isdigit():
            if nouns or colours:
                close()
            count = _NUMBERS.get(word) or int(word[:6])
        elif word in _COLOURS:
            colours.append(_COLOURS[word])
        elif word in _BOUNDARY or word in FILLER or not word[0].isalnum() or _is_verb(word):
            if word in ".;" or nouns or colours or count is None or not word[0].isalnum():
                close()
            if word in ".;":
                near_background = False
        else:
            nouns.append(word)
    close()
    relations = [(phrases[i - 1].head, side, phrases[i].head) for i, side in sides if 0 < i < len(phrases)]
    return Reading(phrases, relations, [side for _, side in sides], background, quoted, names)


def _is_verb(word: str) -> bool:
    return word.endswith("ing") and len(word) > 4 and word not in _NOUNS and singular(word) not in _ING_NOUNS


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
