"""Noun phrases: collecting one, telling its verbs from its adjectives, and knowing a thing that was named before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .facts_reading import Mention, joined
from .facts_tokens import Token
from .facts_words import is_soft, known_words, noun

_LIKE_A_NOUN = ("determiner", "number", "many", "pronoun", "possessive", "part")


@dataclass
class Phrase:
    """A noun phrase while it is being collected."""

    determined: bool = False
    definite: bool = False
    one: bool = False  # "a", "an"
    owned: bool = False  # "its"
    many: bool = False
    pair: bool = False
    shared: bool = False
    coordinated: bool = False  # "white and fluffy"
    negated: bool = False
    part_of_count: bool = False
    count: int | None = None
    attributes: list[tuple[str, str]] = field(default_factory=list)
    more: list[tuple[str, str]] = field(default_factory=list)  # second readings of attributes
    texts: list[str] = field(default_factory=list)
    nouns: list[Token] = field(default_factory=list)
    parts: list[tuple[str, list[tuple[str, str]], Token | None, int | None]] = field(default_factory=list)

    def add_noun(self, token: Token) -> None:
        self.nouns.append(token)

    def is_plural(self) -> bool:
        return self.many or (self.count or 1) > 1 or bool(self.nouns and self.nouns[-1].plural)

    def is_open(self) -> bool:
        """Begun, but no noun yet."""
        return not self.nouns and (self.determined or bool(self.attributes) or self.count is not None)


def make_mention(phrase: Phrase, negative: bool, sentence: int) -> Mention:
    """The mention of a collected phrase. "a cat portrait" is of a cat: what only frames gives way to what is framed."""
    tokens = phrase.nouns
    head = tokens[-1]
    of = [t.noun or t.low for t in tokens[:-1]]
    soft = is_soft(head.noun) or head.low.isdecimal()
    attributes = [a for a in phrase.attributes if a[0] != "vague"]
    if head.noun in _FRAMES or (head.noun == "background" and not attributes):
        for at in range(len(tokens) - 2, -1, -1):
            if not is_soft(tokens[at].noun):
                head, of, soft = tokens[at], [t.noun for t in tokens[:at]], False
                break
    for token in tokens[: tokens.index(head)]:
        # A noun that is also a material or colour ("glass bowl", "rose petals") says what the thing is like.
        attributes += [pair for pair in token.attributes if pair[0] != "vague" and pair not in attributes][:1]
        if any(name in ("material", "colour") for name, _ in token.attributes):
            of = [w for w in of if w != token.noun]
    plural = head.plural or phrase.many or (phrase.count or 1) > 1
    count = phrase.count
    paired = known_words().function["paired"]
    if phrase.pair and (head.noun in paired or head.noun.endswith("s")):
        count = None
    elif count is None and phrase.one and not plural:
        count = 1
    return Mention(
        head.noun or head.low, head.low, of, attributes, count, plural, phrase.definite, phrase.determined,
        negative or phrase.negated, phrase.part_of_count, head.listed, soft, sentence,
    )  # fmt: skip


def merge_into(mentions: list[Mention], new: Mention, phrase_has_article: bool) -> int:
    """The index of `new` among `mentions`: that of the thing it names again, else a new one."""
    if not new.negated:
        if new.count == 1 and not (new.determined and phrase_has_article):
            kin = [m for m in mentions if m.head == new.head and (m.count or 1) > 1 and not m.negated]
            new.part_of_count = any(_same_thing(m, replace(new, count=None, plural=m.plural)) for m in kin)
        best, best_fit = -1, -1
        for index in range(len(mentions) - 1, max(-1, len(mentions) - 40), -1):
            old = mentions[index]
            if old.negated or not _same_thing(old, new):
                continue
            again = new.definite or (new.sentence != old.sentence) or not new.determined
            fit = len(set(new.attributes) & set(old.attributes)) * 2 + len(set(new.of) & set(old.of))
            if again and fit > best_fit:
                best, best_fit = index, fit
        if best >= 0:
            old = mentions[best]
            old.attributes += [a for a in new.attributes if a not in old.attributes]
            old.of += [w for w in new.of if w not in old.of]
            old.count = old.count if old.count is not None else new.count
            return best
    mentions.append(new)
    return len(mentions) - 1


def _same_thing(old: Mention, new: Mention) -> bool:
    if old.head != new.head and not (old.of or new.of):
        return False
    if old.head != new.head and not joined(old.head, old.of) & joined(new.head, new.of):
        return False
    if old.of and new.of and not set(old.of) & set(new.of):
        return False
    if (
        new.count is not None
        and old.count != new.count
        and not (new.count == 1 and old.count is None and not old.plural)
    ):
        return False
    if new.plural != old.plural and new.count is None and not new.definite:
        return False
    exclusive = known_words().exclusive
    for name, value in new.attributes:
        values = {v for c, v in old.attributes if c == name}
        if values and value not in values and (name in exclusive or _opposed(value, values)):
            return False
    return True


def _opposed(value: str, values: set[str]) -> bool:
    return any((value, other) in known_words().opposites for other in values)


def part_noun(token: Token, before: Token | None) -> str | None:
    """The part in "blue-eyed", "red-roofed", "bearded": what comes before says what it is like."""
    low = token.low
    counted = before is not None and before.kind == "number"  # "a four-towered castle"
    if not low.endswith("ed") or len(low) < 4 or before is None or token.attributes:
        return None
    if known_words().verbs.get(low) and not counted:
        return None
    if not (before.kind == "word" and (before.attributes or before.noun)) and before.kind != "number":
        return None
    words = known_words()
    for base in (low[:-2], low[:-1], low[:-3]):
        name = noun(base)
        sorts = {"part", "place"} if counted else {"part", "object"}
        if name in words.sorts and words.sorts[name] & sorts and low[-3] != "i":
            return name
    return "tooth" if low == "toothed" else None


def is_verb(token: Token, phrase: Phrase, after: Token | None, state: dict[str, bool]) -> str:
    """What a word is here: "verb", "attribute", "noun", "adverb" or "doing:..." for a participle before its noun."""
    verbs, attributes = token.verbs, token.attributes
    kind = after.kind if after is not None else "end"
    before_noun = kind == "word" or kind == "scene"
    listens = kind in _LIKE_A_NOUN
    if token.low.endswith("ly") and not token.listed and not attributes and len(token.low) > 4:
        return "adverb"
    if attributes and all(name == "vague" for name, _ in attributes) and not verbs and not token.listed:
        return "adverb"
    if "ing" in verbs:
        return _ing(token, phrase, after, state)
    if attributes and not _is_noun_here(token, phrase, after, state):
        passive = (
            ("past" in verbs or "participle" in verbs) and kind == "relation" and (phrase.nouns or state["after_be"])
        )
        if not (passive and after is not None and after.low == "by") and not (listens and phrase.nouns):
            if all(name == "vague" for name, _ in attributes):
                return "adverb"
            return "attribute"
    if "third" in verbs and _third(token, phrase, kind, state):
        return "verb"
    if ("past" in verbs or "participle" in verbs) and not (token.listed and phrase.is_open()):
        if state["after_be"] and not phrase.nouns:
            return "verb"
        if before_noun and not phrase.nouns:
            acts = state["pronoun"] and _takes_bare(token)  # "she painted walls"; else "fried rice"
            return "verb" if acts and not phrase.is_open() else "doing:" + next(iter(verbs.values()))
        if phrase.nouns:
            unlisted = not token.listed or (phrase.determined and kind in ("relation", "determiner"))
            if before_noun and not attributes and unlisted and "base" not in verbs:
                return (
                    "verb"
                    if after is not None and after.listed and not phrase.determined
                    else "doing:" + next(iter(verbs.values()))
                )
            return "verb" if unlisted else "noun"
        if not token.listed and not phrase.is_open():
            return "verb"
    if "base" in verbs and _base(token, phrase, kind, state):
        return "verb"
    return "noun"


def _takes_bare(token: Token) -> bool:
    return any(base in known_words().transitive for base in token.verbs.values())


def _ing(token: Token, phrase: Phrase, after: Token | None, state: dict[str, bool]) -> str:
    words = known_words().function
    kind = after.kind if after is not None else "end"
    base = token.verbs["ing"]
    if token.low in words["ing noun"] or (token.listed and token.low in known_words().nouns):
        object_follows = kind in _LIKE_A_NOUN
        acts = phrase.nouns or state["after_be"] or (state["subject"] and kind in ("determiner", "number"))
        if object_follows and acts and not (phrase.determined and not phrase.nouns):
            return "verb"
        return "noun"
    if state["after_be"] and not phrase.nouns:
        return "verb"
    bare = kind == "word" and after is not None and bool(after.noun)
    tool = bare and after is not None and after.noun in words["ing tool"] and token.low not in known_words().attributes
    if phrase.is_open():
        if tool:
            return "noun"
        return f"doing:{base}" if bare or kind == "scene" else "verb" if kind in (*_LIKE_A_NOUN, "relation") else "noun"
    transitive = base in known_words().transitive
    if phrase.nouns:
        alive = bool({"person", "animal"} & known_words().sorts.get(phrase.nouns[-1].noun, set()))
        acts = alive and after is not None and after.plural  # "a clerk stamping books"
        return "noun" if tool and not transitive and not acts else "verb"
    if state["pending"]:
        return ("noun" if tool else f"doing:{base}") if bare and not transitive else "verb"
    if bare and not (transitive and (state["subject"] or not tool)):
        return "noun" if tool else f"doing:{base}"
    return "verb"


def _third(token: Token, phrase: Phrase, kind: str, state: dict[str, bool]) -> bool:
    if not phrase.nouns:
        if phrase.is_open() or (state["pending"] and not state["front"]):
            return False
        known = token.verbs["third"] in known_words().meanings and token.low not in known_words().attributes
        return state["pronoun"] or (not token.listed and known)
    if phrase.is_plural() and not (state["front"] and not token.listed) and not state["one"]:
        return False
    if token.verbs["third"] not in known_words().meanings:
        return phrase.determined and kind in ("determiner", "possessive", "number")
    if not token.listed:
        return True
    if kind == "end" or kind in ("comma", "stop", "and"):
        return phrase.one and len(phrase.nouns) == 1 and not phrase.attributes
    return (phrase.determined and kind != "word") or kind in ("determiner", "relation", "possessive")


def _base(token: Token, phrase: Phrase, kind: str, state: dict[str, bool]) -> bool:
    if phrase.nouns and (phrase.is_plural() or (state["several"] and kind != "word")):
        return not token.listed or kind in ("determiner", "relation", "possessive", "number", "pronoun")
    if state["front"] and phrase.nouns and token.noun not in known_words().sorts:
        return True  # "on a shelf sit four bears"
    if phrase.nouns or phrase.is_open():
        return False
    if state["pronoun"] or state["to"]:
        return not token.listed or kind in ("determiner", "relation", "end")
    return state["after_action"] and not token.listed


def _is_noun_here(token: Token, phrase: Phrase, after: Token | None, state: dict[str, bool]) -> bool:
    """Is a word that can be an attribute a thing here: "an orange", "a glass", "two squares"?"""
    if not token.listed and not token.plural:
        return False
    if after is not None and after.kind == "word" and (after.noun or after.attributes):
        follows = not (after.verbs and not after.listed and not after.attributes)
        if follows and not (after.attributes and not after.listed and "ing" in after.verbs):
            return False
    if (
        after is not None
        and after.kind == "and"
        and phrase.is_open()
        and all(n == "colour" for n, _ in token.attributes)
    ):
        return (
            token.noun in ("orange", "rose", "plum", "peach", "lemon", "lime", "olive") and phrase.count is not None
        ) or phrase.one
    if token.plural:
        return True
    if phrase.determined or phrase.count is not None:
        return not state["after_be"] or phrase.one
    if state["after_be"] or state["count_follows"]:
        return False
    if phrase.nouns and phrase.nouns[-1].noun == "background":
        return False
    colour = any(name == "colour" for name, _ in token.attributes)
    return not colour or token.noun not in _PLAIN_COLOURS


_FRAMES = {"portrait", "photo", "photograph", "picture", "image", "illustration", "painting", "drawing", "art", "artwork", "poster",
           "wallpaper", "scene", "view", "shot", "style", "design", "theme", "silhouette", "background", "sketch", "print",
           "setting", "composition", "scenery", "render", "rendering", "concept art", "display", "arrangement"}  # fmt: skip
_PLAIN_COLOURS = {
    "orange",
    "violet",
    "turquoise",
    "gold",
    "silver",
    "amber",
    "emerald",
    "ruby",
    "jade",
    "ivory",
    "indigo",
}
