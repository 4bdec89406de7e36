"""Relations and verbs: which mentions they link, and which reading of an ambiguous word they make."""

from __future__ import annotations

from .facts_closing import Closing
from .facts_phrases import Phrase, is_verb, part_noun
from .facts_reading import Link, Mention
from .facts_state import Pending
from .facts_tokens import Token
from .facts_words import known_words


class Linking(Closing):
    """A pass that understands relations and content words."""

    def _relation(self, token: Token, at: int) -> int | None:
        after = self._at(at + 1)
        mention = self._close(at)
        if token.section == "place":
            self._place(token, at, mention, after)
            return None
        if token.low == "by" and self.agent:
            self.pending = Pending("agent", link=self.agent)
            self.agent = None
            return None
        if token.low == "by" and after and after.text[:1].isupper():
            self.pending = Pending("aside")  # an artist's name; names are checked as names
            return None
        anchor = self._anchor(mention)
        if token.value == "of":
            self.pending = Pending("of", to=anchor) if mention is not None else Pending("aside")
            if mention is None and self.joined == "comma" and self.last is not None:
                self.pending = Pending("of", to=[self.last])
            return None
        if token.section == "reversed":
            link = Link("relation", token.value, rights=anchor[:1], maybe_rights=anchor[1:4], negated=self.negative)
            self._add(link)
            self.pending = Pending("left", link=link)
            self.negative = False
            return None
        negated = self.negative and not (after and after.kind == "word" and not self.after_be and not anchor)
        link = Link("relation", token.value, negated=negated)
        self.negative = False if negated else self.negative
        self._add(link)
        front = mention is None and (
            self.sentence_empty or (self.joined == "comma" and not self.after_be) or self._starts(at)
        )
        if front and token.value not in ("with", "of", "as", "for"):
            link.maybe_lefts = anchor[:4]
            self.front = link
        else:
            link.lefts, link.maybe_lefts = anchor[:1], anchor[1:4]
        self.pending = Pending("right", link=link)
        if after is None or after.kind in ("stop", "comma"):
            self.pending = None
            link.maybe_rights = [i for i in self.subject if i not in link.lefts][:2]
        self.after_be = False
        self.joined = ""
        return None

    def _place(self, token: Token, at: int, mention: int | None, after: Token | None) -> None:
        """ "on the left": of what was just said, or of what comes next."""
        here = mention if mention is not None else (self.spoken_for[0] if self.after_be and self.spoken_for else None)
        starts = (
            after is not None
            and after.kind in ("determiner", "number", "word", "many")
            and not (after.verbs and after.kind == "word")
        )
        if here is None and self.last_action and not self.action_ended and self.last_action.lefts:
            here = self.last_action.lefts[0]
        if here is None and not starts and self.last is not None:
            here = self.last
        if here is None:
            self.place = token.value
        else:
            self._mention(here).places.add(token.value)
            self.anchor = [here]
        self.joined = "comma" if self.joined == "comma" else ""

    def _word(self, token: Token, at: int) -> int | None:
        phrase = self.phrase
        after = self._next(at)
        role = is_verb(token, phrase, after, self._state(at)) if token.low != "missing" else ""
        if role == "verb":
            self._verb(token, at, after)
            return None
        if role == "adverb":
            return None
        if token.low in ("missing", "gone") and self.after_be and self.spoken_for and not phrase.nouns:
            self._mention(self.spoken_for[0]).negated = True  # "one eye is missing"
            return None
        if token.low in ("missing", "lacking") and (phrase.determined or (after and after.kind == "determiner")):
            if phrase.nouns:
                self._close(at)
            self.phrase.negated = self.phrase.negated or self.phrase.determined
            self.negative = self.negative or not self.phrase.negated
            return None
        part = part_noun(token, self._before(at))
        if part:
            if phrase.nouns and phrase.nouns[-1].attributes:
                phrase.attributes.append(phrase.nouns.pop().attributes[0])
            before = self._before(at)
            if before and before.kind == "number":  # "a four-towered castle"
                many, phrase.count = phrase.count, 1 if phrase.one else None
                phrase.parts.append((part, [], None, many))
                return None
            about = [phrase.attributes.pop()] if phrase.attributes else []
            while about and about[0][0] == "colour" and phrase.attributes and phrase.attributes[-1][0] == "colour":
                about.append(phrase.attributes.pop())  # "blue and orange winged"
            phrase.parts.append((part, about, phrase.nouns.pop() if not about and phrase.nouns else None, None))
            return None
        if role == "attribute":
            if phrase.nouns and not (after and after.kind == "word" and not self._is_verb_soon(at + 1)):
                mention = self._close(at)
                if mention is not None:
                    self._describe([mention], token.attributes[:1])
                    self.last, self.anchor = mention, [mention]
                return None
            if phrase.nouns:
                before = self._before(at)
                if before and before.kind == "word" and before.noun:
                    self._close(at)
            phrase = self.phrase
            phrase.attributes.append(token.attributes[0])
            phrase.more += token.attributes[1:]
            phrase.texts.append(token.low)
            return None
        if role.startswith("doing:"):
            phrase.attributes.append(("doing", role[6:]))
            return None
        if token.low.endswith("less") and len(token.low) > 6 and not token.listed:
            self.reading.mentions.append(
                Mention(known_words().nouns.get(token.low[:-4], token.low[:-4]), token.low, negated=True)
            )
            return None
        if token.low in _WITHOUT:
            self.reading.mentions.append(Mention(_WITHOUT[token.low], token.low, negated=True))
            if token.attributes:
                phrase.attributes.append(token.attributes[0])
            return None
        phrase.add_noun(token)
        return None

    def _verb(self, token: Token, at: int, after: Token | None) -> None:
        form, base = _form(token, self.phrase, self.after_be)
        mention = self._close(at)
        speaks = after is not None and after.kind == "quote"
        passive = form in ("past", "participle") and (
            self.after_be or (after is not None and after.low == "by") or not (after and after.kind in _OPENS)
        ) and form != "active"  # fmt: skip
        if base in _NEVER_PASSIVE:
            passive = False
        lefts, maybe = self._subject_of(mention, form, base, passive)
        whom = self.spoken_for[:1] if self.relative and mention is not None and not passive else []
        self.relative = False
        if self.negative:
            self.reading.lacking.append(base)
        link = Link("action", base, negated=self.negative, passive=passive)
        if not self.negative or (after and after.kind in _OPENS):
            self.negative = self.negative and base in ("have", "wear", "hold", "carry", "show")
        if mention is None and not lefts and self.front is None:
            self.front_verb = link
        elif self.front is not None and form in ("third", "past", "base") and not passive:
            self.front_verb = link
            lefts, maybe = [], []
        if passive:
            link.rights, link.maybe_rights = lefts, maybe
            self.agent = link
        else:
            link.lefts, link.maybe_lefts = lefts, maybe
            link.rights = [i for i in whom if i not in lefts]
        self._add(link)
        self.pending = None
        if base == "have" and not link.negated:
            link.kind, link.name = "relation", "with"
        if (
            not passive
            and not speaks
            and self.front_verb is not link
            and after is not None
            and after.kind in (*_OPENS, "pronoun")
        ):
            self.pending = Pending("object", link=link)
        self.anchor = [*lefts, *maybe]
        self.last_action = link
        self.action_ended = False
        self.after_be = False
        self.spoken_for = []
        self.joined = ""

    def _subject_of(self, mention: int | None, form: str, base: str, passive: bool) -> tuple[list[int], list[int]]:
        if self.spoken_for and not (self.relative and mention is not None and not passive):
            return self.spoken_for[:1], self.spoken_for[1:]
        if mention is not None:
            chain = [] if self.on_top else [i for i in self._chain(mention) if i != mention]
            if self.on_top and form == "ing" and not self._mention(mention).determined:
                # "a model in a dress and sneakers walking"
                worn = [i for j in self._mention(mention).beside for i in self._chain(j)]
                chain = [i for i in dict.fromkeys(worn) if i != mention and self._is_alive(i)]
            beside = [i for i in self._mention(mention).beside if not self._mention(i).above]
            if form in ("third", "base", "past") and chain and not passive and not self._mention(mention).beside:
                root = chain[-1]
                return [root], [mention, *[i for i in chain if i != root]][:4]
            alive = [i for i in chain if self._is_alive(i)]
            if alive and not passive and not self._is_alive(mention) and base not in known_words().posture:
                return alive[:1], [mention, *beside, *(i for i in chain if i != alive[0])][:4]
            return [mention], [*beside, *chain][:4]
        options = self._clause_subject()
        return options[:1], [
            *options[1:],
            *([self.last] if self.last is not None and self.last not in options else []),
        ][:4]

    def _state(self, at: int) -> dict[str, bool]:
        return {
            "after_be": self.after_be,
            "pronoun": bool(self.spoken_for),
            "pending": self.pending is not None,
            "subject": bool(self.subject or self.spoken_for),
            "after_action": self.last_action is not None and self.joined == "and",
            "to": bool(self.pending and self.pending.link and self.pending.link.name == "to"),
            "begins": self.joined != "" or self.last is None,
            "front": self.front is not None,
            "count_follows": self._count_follows(at),
            "one": self._hangs_on_subject(False),
            "several": self._hangs_on_subject(True),
        }

    def _hangs_on_subject(self, many: bool) -> bool:
        """Does the phrase hang on a subject that is one thing, or `many`? "a man in jeans holds", "men in a car hold"."""
        if many and self.joined == "and" and self.pending is None and self.subject:
            return True  # "a cat and a dog argue"
        if self.pending is None or self.pending.what not in ("right", "of", "object") or not self.subject:
            return False
        subject = self._mention(self.subject[0])
        return (subject.plural or (subject.count or 1) > 1 or len(self.subject) > 1) == many

    def _count_follows(self, at: int) -> bool:
        """ "boats, azure, two of them": a bare colour before a number is no thing."""
        comma, number = self._at(at + 1), self._at(at + 2)
        return comma is not None and comma.kind == "comma" and number is not None and number.kind == "number"

    def _is_verb_soon(self, at: int) -> bool:
        token = self._at(at)
        return token is not None and bool(token.verbs) and not token.listed and not token.attributes


_OPENS = ("determiner", "number", "word", "many", "part")


_NEVER_PASSIVE = {"sit", "stand", "lie", "sleep", "run", "jump", "walk", "go", "come", "swim", "look", "smile", "fall"}


_WITHOUT = {"barefoot": "shoe", "bald": "hair", "shaven": "beard", "cloudless": "cloud"}


def _form(token: Token, phrase: Phrase, after_be: bool) -> tuple[str, str]:
    """The verb form that a token has here."""
    order = (
        ["ing", "participle", "past", "third", "base"] if after_be else ["ing", "third", "past", "participle", "base"]
    )
    if phrase.nouns and phrase.is_plural() and "base" in token.verbs and "past" in token.verbs:
        order.insert(0, "base")
    for form in order:
        if form in token.verbs:
            return form, token.verbs[form]
    return "base", token.low
