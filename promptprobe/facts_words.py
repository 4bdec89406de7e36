"""The words that the reading of prompts knows: which mean the same, which exclude each other, what sort each is.

Comes in: the word lists of `prompts/words/*.txt`. Goes out: one frozen table, `known_words()`, and the forms of a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

# A readable token: a word, a possessive or short "is", or punctuation that parts things.
TOKEN = re.compile(r"'s\b|\w+|[.,;:!?()|/&\n]")


@dataclass(frozen=True)
class Words:
    """The word lists, read once. Phrases are tuples of lower-case words; every value is a canonical word or its class."""

    nouns: dict[str, str] = field(default_factory=dict)  # word -> the word that stands for its ring
    sorts: dict[str, set[str]] = field(default_factory=dict)  # canonical noun -> sections it stands in
    wider: dict[str, set[str]] = field(default_factory=dict)  # canonical noun -> what it is a kind of
    attributes: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # word -> (class, canonical value)
    near: dict[str, set[str]] = field(default_factory=dict)  # value -> values that may be meant by it
    exclusive: set[str] = field(default_factory=set)  # classes of which a thing has one value
    opposites: set[tuple[str, str]] = field(default_factory=set)
    verbs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # form -> (base, form name)
    meanings: dict[str, set[int]] = field(default_factory=dict)  # verb base -> the lines that it stands in
    posture: set[str] = field(default_factory=set)
    transitive: set[str] = field(default_factory=set)
    scene: dict[str, tuple[str, str]] = field(default_factory=dict)  # phrase -> (section, name)
    relations: dict[str, tuple[str, str]] = field(default_factory=dict)  # phrase -> (section, name)
    function: dict[str, set[str]] = field(default_factory=dict)  # section -> words
    numbers: dict[str, int] = field(default_factory=dict)
    plurals: dict[str, str] = field(default_factory=dict)
    languages: dict[str, set[str]] = field(default_factory=dict)
    foreign_numbers: dict[str, int] = field(default_factory=dict)
    phrases: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)  # first word -> phrases, longest first


@lru_cache(maxsize=1)
def known_words() -> Words:
    """The word lists as one table."""
    words = Words()
    _read_function(words)
    _read_nouns(words)
    _read_attributes(words)
    _read_verbs(words)
    for name, table in (("scene", words.scene), ("relations", words.relations)):
        for section, line in _lines(name):
            canonical, _, others = line.partition(" = ")
            for phrase in (canonical, *_listed(others)):
                table.setdefault(plain(phrase), (section.split()[0], canonical))
        words.exclusive.update(s.split()[0] for s, _ in _lines(name) if s.endswith("exclusive"))
    _read_languages(words)
    known: set[str] = {*words.nouns, *words.attributes, *words.scene, *words.relations}
    for phrase in known:
        parts = tuple(phrase.split())
        if len(parts) > 1:
            words.phrases.setdefault(parts[0], []).append(parts)
    for found in words.phrases.values():
        found.sort(key=lambda parts: -len(parts))
    return words


def plain(phrase: str) -> str:
    """A phrase as the tokens of a text have it: lower case, hyphens and apostrophes as `TOKEN` parts them."""
    return " ".join(TOKEN.findall(phrase.lower().replace("’", "'").replace("-", " ")))


@lru_cache(maxsize=20_000)
def singular(word: str) -> str:
    """A noun without its plural ending; "men" becomes "man"."""
    found = known_words()
    if word in found.plurals:
        return found.plurals[word]
    if word in found.nouns or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")) and word[:-2] in found.nouns | found.plurals:
        return word[:-2]
    if word.endswith("es") and word[:-1] not in found.nouns and word[:-2] in found.nouns:
        return word[:-2]
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1]


def noun(word: str, thesaurus: Mapping[str, str] | None = None) -> str:
    """The canonical singular of a noun: of its ring, or of the caller's own thesaurus where there is one."""
    if thesaurus and word in thesaurus:
        return thesaurus[word]
    found = known_words().nouns
    one = singular(word)
    if thesaurus and one in thesaurus:
        return thesaurus[one]
    return found.get(word) or found.get(one, one)


def is_plural(word: str) -> bool:
    """Is this form a plural? Words with one form for both are not."""
    return singular(word) != word


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """A rough stem, to see that "snowy" and "snow", "smiling" and "smile" belong together."""
    word = singular(word)
    for ending in ("iness", "ness", "ingly", "ally", "ously", "less", "ful", "ing", "ied", "ed", "ly", "en", "y", "er"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] in "eiy" else word


@lru_cache(maxsize=20_000)
def same_kind(one: str, other: str) -> bool:
    """Is one of two canonical nouns a kind of the other ("dog", "poodle")?"""
    wider = known_words().wider
    return other in _all_wider(one, wider) or one in _all_wider(other, wider)


def is_kind_of(one: str, other: str) -> bool:
    """Is `one` a kind of `other`, such as "poodle" of "dog"?"""
    return other in _all_wider(one, known_words().wider)


def same_verb(one: str, other: str) -> bool:
    """Do two verbs mean the same by the lists?"""
    meanings = known_words().meanings
    return one == other or bool(meanings.get(one, set()) & meanings.get(other, set()))


def is_soft(head: str) -> bool:
    """Is this canonical noun one that names nothing to be counted, such as light or mood?"""
    return "soft" in known_words().sorts.get(head, ())


def _all_wider(word: str, wider: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [word]
    while waiting:
        for parent in wider.get(waiting.pop(), ()):
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return seen


def _lines(name: str) -> Iterator[tuple[str, str]]:
    section = ""
    text = (files("promptprobe.prompts") / "words" / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            yield section, line


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_nouns(words: Words) -> None:
    kinds: list[tuple[str, str]] = []
    rings: list[tuple[str, str, list[str]]] = []
    alone: list[str]
    for section, line in _lines("nouns"):
        ring, _, narrower = line.partition(" > ")
        if " = " in ring:
            # "pear, orange = x": the words before the last comma stand alone, the last one has the ring.
            before, _, same = ring.partition(" = ")
            *alone, first = _listed(before)
            rings.append((section, plain(first), [plain(w) for w in _listed(same)]))
        else:
            *alone, first = _listed(ring)
            rings.append((section, plain(first), []))
        rings += [(section, plain(word), []) for word in alone]
        kinds += [(plain(first), plain(word)) for word in _listed(narrower)]
    heads = {first for _, first, _ in rings}
    for _, first, others in rings:
        words.nouns.setdefault(first, first)
        for other in others:
            if other in heads:
                words.nouns[other] = first
            words.nouns.setdefault(other, first)
    for section, first, _ in rings:
        words.sorts.setdefault(words.nouns[first], set()).add(section)
    for first, word in kinds:
        words.nouns.setdefault(word, word)
        parent, kind = words.nouns[first], words.nouns[word]
        if parent != kind:
            words.wider.setdefault(kind, set()).add(parent)
            words.sorts.setdefault(kind, set()).update(words.sorts.get(parent, ()))
    for word in [*words.nouns]:
        # "tophat" is "top hat", "birdhouse" is "bird house"; plurals of what has several words.
        parts = word.split()
        if len(parts) > 1:
            words.nouns.setdefault("".join(parts), words.nouns[word])
            last = parts[-1] + ("es" if parts[-1].endswith(("ch", "sh", "x", "s")) else "s")
            last = parts[-1][:-1] + "ies" if re.search("[^aeiou]y$", parts[-1]) else last
            for many in (last, *(p for p, one in words.plurals.items() if one == parts[-1])):
                words.plurals.setdefault(" ".join([*parts[:-1], many]), word)
                words.nouns.setdefault(" ".join([*parts[:-1], many]), words.nouns[word])
                words.plurals.setdefault("".join([*parts[:-1], many]), "".join(parts))


def _read_attributes(words: Words) -> None:
    later: list[tuple[str, str, str]] = []
    for section, line in _lines("attributes"):
        if section == "opposites":
            one, other = line.split(" / ")
            words.opposites.update([(one, other), (other, one)])
            continue
        name = section.split()[0]
        if section.endswith("exclusive"):
            words.exclusive.add(name)
        ring, _, close = line.partition(" | ")
        canonical, _, others = ring.partition(" = ")
        for word in (canonical, *_listed(others)):
            words.attributes.setdefault(plain(word), []).append((name, canonical))
        for word in _listed(close):
            later.append((plain(word), name, word))
            words.near.setdefault(canonical, set()).add(word)
            words.near.setdefault(word, set()).add(canonical)
    for word, name, value in later:
        if not any(name == known for known, _ in words.attributes.get(word, ())):
            words.attributes.setdefault(word, []).append((name, value))


def _read_verbs(words: Words) -> None:
    for number, (section, line) in enumerate(_lines("verbs")):
        transitive = "*" in line
        for given in line.replace("*", "").split():
            base, *irregular = given.split(":")
            words.meanings.setdefault(base, set()).add(number)
            if section == "posture":
                words.posture.add(base)
            elif transitive:
                words.transitive.add(base)
            for form, name in _forms(base, irregular):
                known = words.verbs.setdefault(form, [])
                if (base, name) not in known:
                    known.append((base, name))


def _forms(base: str, irregular: list[str]) -> list[tuple[str, str]]:
    short = base[:-1] if base.endswith("e") and not base.endswith(("ee", "ye")) else base
    if re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", base) and base[-2:] not in ("ow", "ay"):
        short += base[-1]
    if base.endswith("ie"):
        short = base[:-2] + "y"
    third = base + ("es" if base.endswith(("s", "sh", "ch", "x", "o", "z")) else "s")
    past = short + "ed"
    if re.search("[^aeiou]y$", base):
        third, past = base[:-1] + "ies", base[:-1] + "ied"
    if base.endswith("ie"):
        past = base + "d"
    pasts = [(irregular[0], "past"), (irregular[-1], "participle")] if irregular else [(past, "past")]
    return [(base, "base"), (third, "third"), (short + "ing", "ing"), (base + "ing", "ing"), *pasts]


def _read_function(words: Words) -> None:
    for section, line in _lines("function"):
        listed = [w.replace("-", " ") for w in line.split()]
        if section in ("number", "plural men"):
            for pair in listed:
                word, value = pair.split("=")
                if section == "number":
                    words.numbers[word] = int(value)
                else:
                    words.plurals[word] = value
        else:
            words.function.setdefault(section, set()).update(listed)


def _read_languages(words: Words) -> None:
    for section, line in _lines("languages"):
        if section == "words":
            language, _, listed = line.partition(":")
            words.languages[language] = set(listed.split())
        else:
            value, _, listed = line.partition(" = ")
            words.foreign_numbers.update({w: int(value) for w in listed.split()})
