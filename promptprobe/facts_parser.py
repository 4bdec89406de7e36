"""The pass over the tokens that builds a `Reading`. Here are the small words; the rest is in the classes below it."""

from __future__ import annotations

from collections.abc import Mapping

from .facts_linking import Linking
from .facts_phrases import Phrase
from .facts_reading import Mention, Reading, joined
from .facts_state import Pending
from .facts_text import surface
from .facts_tokens import Token, read_tokens
from .facts_words import known_words, stem


class Parser(Linking):
    """One pass over the tokens of an English prompt; `run` fills the reading. A method for each kind of token."""

    def run(self) -> None:
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            step = getattr(self, f"_{token.kind}")(token, at)
            at += step or 1
        self._close(len(self.tokens))
        self._end_sentence()

    def _stop(self, token: Token, at: int) -> None:
        self._close(at)
        self._end_sentence()

    def _colon(self, token: Token, at: int) -> None:
        self._close(at)

    def _comma(self, token: Token, at: int) -> None:
        phrase, after = self.phrase, self._at(at + 1)
        describes = after is not None and after.kind == "word" and bool(after.attributes)
        later = self._at(at + 2)
        goes_on = phrase.determined or (later is not None and later.kind == "word" and not phrase.coordinated)
        if phrase.attributes and not phrase.nouns and describes and goes_on:
            return  # "a tall, thin man"
        self._close(at)
        if self.pending and self.pending.what in ("right", "of", "object"):
            self._drop_pending()
        self.joined = "comma"
        self.after_be = self.negative = self.relative = False
        self.action_ended = True
        self.agent = None

    def _quote(self, token: Token, at: int) -> None:
        self._close(at)
        self._drop_pending()
        self.joined = "comma"

    def _filler(self, token: Token, at: int) -> None:
        pass

    def _determiner(self, token: Token, at: int) -> None:
        if self.phrase.nouns or self.phrase.attributes or self.phrase.count is not None:
            self._close(at)
        self.phrase.determined = True
        function = known_words().function
        self.phrase.definite = token.low in function["definite"]
        self.phrase.one = token.low in ("a", "an", "another", "each", "every")
        self.phrase.owned = token.low in ("its", "his", "her", "their")

    def _number(self, token: Token, at: int) -> int | None:
        value, after = int(token.value), self._at(at + 1)
        if token.low in ("lone", "solitary", "single") and not self.phrase.nouns:
            self.phrase.count = 1 if self.phrase.count is None else self.phrase.count
            return None
        if self.phrase.nouns or self.phrase.attributes:
            self._close(at)
        if after and after.kind == "relation" and after.value == "of":
            what = self._at(at + 2)
            if what and what.kind == "determiner":
                self.phrase.count, self.phrase.determined = value, True  # "one of its legs"
                return 3
            if what and what.kind in ("pronoun", "relative"):
                self._some_of(value)
                return 3
            if what is None or what.kind in ("stop", "comma"):
                self._count_of_last(value, at)
                return 2
        if (
            after is None
            or after.kind in ("stop", "comma", "quote", "be", "colon")
            or (after.kind == "and" and value > 1)
        ):
            if after and after.kind == "be":
                self._some_of(value)
            else:
                self._count_of_last(value, at)
            return None
        self.phrase.count = 12 * (self.phrase.count or 1) if token.low == "dozen" else value
        self.phrase.determined = True
        return None

    def _some_of(self, value: int) -> None:
        """ "boats, two of them" counts the boats; "four dogs, one of them black" speaks of one of the four."""
        self._close(0)
        found = self._resolve("them", set())
        if not found:
            return
        whole = self._mention(found[0])
        if (whole.count or 1) <= value:
            self.last = found[0]
            self._count_of_last(value, 0)
            return
        part = Mention(
            whole.head,
            whole.word,
            list(whole.of),
            [],
            value,
            listed=whole.listed,
            part_of_count=True,
            sentence=self.sentence,
        )
        self.reading.mentions.append(part)
        self.last = len(self.reading.mentions) - 1
        self.spoken_for = [self.last]

    def _many(self, token: Token, at: int) -> int | None:
        after = self._at(at + 1)
        if self.phrase.nouns:
            self._close(at)
        if after and after.kind == "relation" and after.value == "of":
            return self._part(token, at)
        self.phrase.many = self.phrase.determined = True
        return None

    def _part(self, token: Token, at: int) -> int:
        """ "a pair of", "a flock of": how many, not what."""
        if self.phrase.nouns or self.phrase.attributes:
            self._close(at)
        number = int(token.value or 0)
        phrase = self.phrase
        if token.low == "dozen":
            phrase.count = 12 * (phrase.count or 1)
        elif number and token.low == "pair":
            phrase.count, phrase.pair = 2, True
        elif number:
            phrase.count = number
        elif token.low not in ("kind", "type", "sort", "piece"):
            phrase.many = True
            phrase.count = None
        phrase.one = False
        phrase.determined = True
        return 2

    def _and(self, token: Token, at: int) -> None:
        after = self._at(at + 1)
        if self.phrase.attributes and not self.phrase.nouns and after and after.kind == "word" and after.attributes:
            self.phrase.coordinated = True
            return
        if (
            self.phrase.determined
            and self.phrase.attributes
            and not self.phrase.nouns
            and after
            and after.kind == "determiner"
        ):
            self.phrase.shared = True  # "a red and a blue car"
        negative = self.negative or (self.last is not None and self._mention(self.last).negated and not self._ends(at))
        self._close(at)
        self.joined = "and"
        goes_on = after is not None and after.kind == "word" and not after.verbs.get("ing")
        self.negative = negative and (token.low in ("nor", "or") or goes_on)
        if self.pending and self.pending.what != "right":
            self._drop_pending()

    def _clause(self, token: Token, at: int) -> None:
        self._close(at)
        self._drop_pending()
        self.former = self.subject or self.former
        self.subject, self.spoken_for, self.anchor = [], [], []
        self.after_be = self.negative = False
        self.joined = ""
        self.action_ended = True

    def _negation(self, token: Token, at: int) -> int | None:
        after = self._at(at + 1)
        self._close(at)
        self._drop_pending_right()
        if (token.low == "no" and after and after.low == "one") or token.low in ("nobody", "none"):
            self.negative = True
            self.subject, self.spoken_for = [], []
            return 2 if token.low == "no" else 1
        self.negative = True
        return None

    def _pronoun(self, token: Token, at: int) -> None:
        self._close(at)
        exclude = set(self.pending.link.lefts) if self.pending and self.pending.link else set()
        found = self._resolve(token.low, exclude)
        if self.pending and self.pending.what in ("right", "object", "left", "agent", "of", "aside"):
            self._arrive(found[:1], found[1:3])
            self._maybe_front(at, pronoun=True)
        elif found:
            self.spoken_for = found[:1]
            self.anchor = found[:1]
            self.subject = self.subject or found[:1]
        self.joined = ""

    def _relative(self, token: Token, at: int) -> None:
        mention = self._close(at)
        if self.pending:
            self._drop_pending()
        found = mention if mention is not None else self.last
        if found is None:
            return
        options = [found, *self._chain(found)]
        people = [i for i in options if "person" in known_words().sorts.get(self._mention(i).head, ())]
        chosen = people[:1] if token.low == "who" and people else [found]
        self.anchor = [*chosen, *(i for i in options if i not in chosen)]
        if token.low == "whose":
            self.pending = Pending("owner", to=chosen)
        elif token.low == "where":
            self.former, self.subject, self.spoken_for = self.subject or self.former, [], []
        else:
            self.spoken_for = chosen
            self.relative = token.low in ("that", "which", "whom", "who")

    def _possessive(self, token: Token, at: int) -> None:
        outer = self.pending
        owner = self._close(at, owner=True)
        if owner is not None:
            self.pending = Pending(
                "owner", link=outer.link if outer and outer.what in ("right", "object") else None, to=[owner]
            )

    def _be(self, token: Token, at: int) -> None:
        mention = self._close(at)
        if token.low == "there":
            self.spoken_for = []  # "over a stove there hang pots"
            return
        if mention is not None:
            self.pending = self.pending if self.front else None
            self.spoken_for = (
                self.spoken_for
                if self.spoken_for and mention in self.spoken_for
                else [mention if self.on_top else self._root(mention)]
            )
        if (before := self._before(at)) and before.low == "there":
            return  # "there are hanging pots": no subject stands before it
        if self.spoken_for:
            self.anchor = [*self.spoken_for]
        self.after_be, self.relative = True, False

    def _made(self, token: Token, at: int) -> None:
        mention = self._close(at)
        target = [mention] if mention is not None else self.spoken_for or self._clause_subject()
        self.pending = Pending("material", to=target)
        self.after_be = False

    def _shaped(self, token: Token, at: int) -> None:
        mention = self._close(at)
        target = [mention] if mention is not None else self.spoken_for or self._clause_subject()
        self.pending = Pending("shape", to=target)

    def _scene(self, token: Token, at: int) -> None:
        self.reading.scene.append((token.section, token.value))
        after = self._at(at + 1)
        if self.phrase.nouns:
            self._close(at)
        if after is None or after.kind not in ("word", "scene", "and"):
            self.phrase = Phrase()
            if self.pending and self.pending.what in ("right", "object"):
                link = self.pending.link  # "on a rainy day"
                self.reading.links = [x for x in self.reading.links if x is not link or x.kind == "action"]
                self.front = None if self.front is link else self.front
                self._drop_pending()


def read(prompt: str, thesaurus: Mapping[str, str] | None = None) -> Reading:
    """Take a prompt apart; `thesaurus` maps a world's synonyms and plurals to its own words."""
    seen = surface(prompt)
    reading = Reading(seen)
    if seen.language != "english":
        return reading
    tokens = read_tokens(seen.text, thesaurus)
    Parser(reading, tokens).run()
    for token in tokens:
        for word in token.low.split():
            reading.words.add(word)
            reading.stems.add(stem(word))
        if token.noun:
            reading.words.add(token.noun)
            reading.stems.add(stem(token.noun))
        for base in token.verbs.values():
            reading.stems.add(stem(base))
    reading.stems |= {stem(w) for m in reading.mentions for w in (m.head, *m.of, *m.values())}
    for index, mention in enumerate(reading.mentions):
        if not mention.negated:
            for form in joined(mention.head, mention.of):
                reading.forms.setdefault(form, []).append(index)
    for quoted in seen.quoted:
        reading.words |= set(quoted.lower().split())
    return reading
