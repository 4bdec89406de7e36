"""The pass over the tokens that builds a `Reading`: noun phrases are collected and closed, verbs and relations link them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .facts_phrases import Phrase, is_verb, make_mention, merge_into, part_noun
from .facts_reading import Link, Mention, Reading
from .facts_tokens import Token
from .facts_words import is_soft, known_words

_AS_PHOTO = {"take", "make"}


@dataclass
class Pending:
    """What the next noun phrase is: the right side of a link, the material or the shape of a thing, ..."""

    what: str  # right, left, object, agent, of, material, shape, owner, aside
    link: Link | None = None
    to: list[int] = field(default_factory=list)


class Parser:
    """Lives for one pass. `subject` are the mentions that the clause is about, `anchor` what the next link hangs on."""

    def __init__(self, reading: Reading, tokens: list[Token]) -> None:
        self.reading = reading
        self.tokens = tokens
        self.phrase = Phrase()
        self.pending: Pending | None = None
        self.subject: list[int] = []
        self.former: list[int] = []  # the subject of the sentence before
        self.anchor: list[int] = []
        self.front: Link | None = None  # "on a hill stands ...": a relation whose left side is still to come
        self.front_verb: Link | None = None
        self.place = ""  # "on the left a house"
        self.agent: Link | None = None  # a passive verb that may get a "by"
        self.last_action: Link | None = None
        self.action_ended = True
        self.after_be = False
        self.negative = False
        self.joined = ""  # "and" or "comma" before the phrase
        self.spoken_for: list[int] = []  # subject by a pronoun or a relative
        self.sentence = 0
        self.sentence_empty = True
        self.last: int | None = None
        self.on_top = False  # did the last phrase begin its clause, hanging on nothing?

    def run(self) -> None:
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            step = getattr(self, f"_{token.kind}")(token, at)
            at += step or 1
        self._close(len(self.tokens))
        self._end_sentence()

    # Small words

    def _stop(self, token: Token, at: int) -> None:
        self._close(at)
        self._end_sentence()

    def _colon(self, token: Token, at: int) -> None:
        self._close(at)
        # "background: white", "left of: tree" go on; a colon after a sentence opens a list.

    def _comma(self, token: Token, at: int) -> None:
        phrase, after = self.phrase, self._at(at + 1)
        if phrase.attributes and not phrase.nouns and after and after.kind == "word" and after.attributes:
            if phrase.determined or (self._at(at + 2) and self._at(at + 2).kind == "word"):  # type: ignore[union-attr]
                return
        self._close(at)
        if self.pending and self.pending.what in ("right", "of", "object"):
            self._drop_pending()
        self.joined = "comma"
        self.after_be = self.negative = False
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

    def _ends(self, at: int) -> bool:
        return at > 0 and self.tokens[at - 1].kind in ("comma", "stop")

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
            self._maybe_front(at)
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
        else:
            self.spoken_for = chosen

    def _possessive(self, token: Token, at: int) -> None:
        outer = self.pending
        owner = self._close(at, owner=True)
        if owner is not None:
            self.pending = Pending(
                "owner", link=outer.link if outer and outer.what in ("right", "object") else None, to=[owner]
            )

    def _be(self, token: Token, at: int) -> None:
        mention = self._close(at)
        if mention is not None:
            self.pending = self.pending if self.front else None
            self.spoken_for = (
                self.spoken_for
                if self.spoken_for and mention in self.spoken_for
                else [mention if self.on_top else self._root(mention)]
            )
        elif token.low == "there":
            self.spoken_for = []
            return
        if self.spoken_for:
            self.anchor = [*self.spoken_for]
        self.after_be = True

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

    # Relations

    def _relation(self, token: Token, at: int) -> int | None:
        after = self._at(at + 1)
        mention = self._close(at)
        if token.section == "place":
            return self._place(token, at, mention, after)
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

    def _starts(self, at: int) -> bool:
        return at == 0 or self.tokens[at - 1].kind == "stop"

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

    # Words

    def _word(self, token: Token, at: int) -> int | None:
        phrase = self.phrase
        after = self._next(at)
        role = is_verb(token, phrase, after, self._state(at))
        if role == "verb":
            self._verb(token, at, after)
            return None
        if role == "adverb":
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
            about = [phrase.attributes.pop()] if phrase.attributes else []
            while about and about[0][0] == "colour" and phrase.attributes and phrase.attributes[-1][0] == "colour":
                about.append(phrase.attributes.pop())  # "blue and orange winged"
            phrase.parts.append((part, about, phrase.nouns.pop() if not about and phrase.nouns else None))
            return None
        if role == "attribute":
            if phrase.nouns and not (after and after.kind == "word" and not self._is_verb_soon(at + 1)):
                mention = self._close(at)
                if mention is not None:
                    self._describe([mention], token.attributes[:1])
                    self.last = mention
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

    def _is_alive(self, index: int) -> bool:
        return bool({"person", "animal"} & known_words().sorts.get(self._mention(index).head, set()))

    def _subject_of(self, mention: int | None, form: str, base: str, passive: bool) -> tuple[list[int], list[int]]:
        if self.spoken_for:
            return self.spoken_for[:1], self.spoken_for[1:]
        if mention is not None:
            chain = [] if self.on_top else [i for i in self._chain(mention) if i != mention]
            beside = [i for i in self._mention(mention).beside if not self._mention(i).above]
            if form in ("third", "base", "past") and chain and not passive and not self._mention(mention).beside:
                root = chain[-1]
                return [root], [mention, *[i for i in chain if i != root]][:4]
            alive = [i for i in chain if self._is_alive(i)]
            if alive and not passive and not self._is_alive(mention) and base not in known_words().posture:
                return alive[:1], [mention, *beside]
            return [mention], [*beside, *chain][:4]
        options = self._clause_subject()
        return options[:1], [
            *options[1:],
            *([self.last] if self.last is not None and self.last not in options else []),
        ][:4]

    # Mentions and where they go

    def _close(self, at: int, owner: bool = False) -> int | None:
        """End the noun phrase, if there is one; its mention's index."""
        phrase, self.phrase = self.phrase, Phrase()
        if phrase.shared and not phrase.nouns:
            later = next(
                (t for t in self.tokens[at + 1 : at + 8] if t.kind == "word" and t.noun and not t.attributes), None
            )
            if later:
                phrase.add_noun(later)
        if not phrase.nouns:
            self._dangling(phrase)
            return None
        mention = make_mention(phrase, self.negative, self.sentence)
        if self.pending and self.pending.what in ("material", "shape"):
            self._as_attribute(mention)
            return self.last
        if self.pending and self.pending.what == "of" and self._is_material(mention, self.pending.to):
            self._as_attribute(mention)
            return self.last
        index = merge_into(self.reading.mentions, mention, phrase.one)
        self._parts(phrase, index)
        self._arrive_at(index, at, owner)
        return index

    def _arrive_at(self, index: int, at: int, owner: bool) -> None:
        mention = self._mention(index)
        top = self.on_top = self.pending is None
        if self.pending:
            ditransitive = self.pending if self.pending.what == "object" else None
            self._arrive([index], [])
            if ditransitive and not owner:
                after = self._at(at)
                if after and after.kind in ("determiner", "number", "many"):
                    self.pending = ditransitive
        elif self.joined == "and" and self.last is not None:
            self._beside(index, self.last)
        elif (
            self.joined == "comma"
            and self.last not in (None, index)
            and not (mention.determined or self._mention(self.last).above)
        ):
            mention.beside = [self.last, *self._mention(self.last).beside][:4]
        if top and self.place:
            mention.places.add(self.place)
            self.place = ""
        if top:
            self._take_front(index)
            if self.after_be and self.spoken_for and index not in self.spoken_for:
                self._add(Link("relation", "is", lefts=self.spoken_for[:1], rights=[index]))
                mention.above = mention.above or self.spoken_for[:1]
            elif not self.subject or (mention.definite and self._at(at) and self._at(at).kind == "be"):  # type: ignore[union-attr]
                self.subject = [index]
            elif self.joined == "and":
                self.subject = [*self.subject, index]
        if not mention.soft:
            self.sentence_empty = False
        elif self.subject == [index]:
            self.subject = []
        if not mention.negated:
            self.last = index
        self.joined = ""
        self.negative = False if not owner else self.negative
        self.after_be = False if not owner else self.after_be
        if self.front and not top:
            self._maybe_front(at - 1)

    def _arrive(self, found: list[int], maybe: list[int]) -> None:
        """Give what is pending the mentions that it waited for."""
        pending, self.pending = self.pending, None
        if pending is None or not found:
            return
        link, index = pending.link, found[0]
        mention = self._mention(index)
        if pending.what == "of":
            self._of(pending.to, index, maybe)
        elif pending.what == "owner":
            self._add(Link("relation", "with", lefts=pending.to[:1], rights=[index]))
            mention.above = mention.above or pending.to[:1]
            self.spoken_for = [index]
            if link is not None:
                link.rights = [index]
        elif link is not None and pending.what in ("right", "object"):
            link.rights.append(index)
            link.maybe_rights += maybe
            link.maybe_lefts = [i for i in link.maybe_lefts if i != index]
            if not mention.above:
                mention.above = [i for i in link.left()[:1] if i != index]
            self.anchor = [index, *link.lefts]
        elif link is not None and pending.what in ("left", "agent"):
            link.lefts.append(index)
            link.maybe_lefts += maybe
            mention.above = mention.above or [i for i in link.right()[:1] if i != index]

    def _of(self, to: list[int], index: int, maybe: list[int]) -> None:
        left = self._mention(to[0])
        if left.soft:
            # "the surface of the moon": what was said of the surface holds for the moon.
            for link in self.reading.links:
                for side in (link.lefts, link.rights):
                    if to[0] in side:
                        side[side.index(to[0])] = index
            self._mention(index).above = [i for i in left.above if i != index]
            self._mention(index).places |= left.places
            self.subject = [index] if not self.subject or self.subject == to[:1] else self.subject
            self._take_front(index) if not left.above else None
            if not self._mention(index).attributes and not left.above:
                pass
        else:
            self._add(Link("relation", "of", lefts=to[:1], rights=[index], maybe_rights=maybe))
            self._mention(index).above = self._mention(index).above or to[:1]

    def _take_front(self, index: int) -> None:
        if self.front is not None and index not in self.front.rights:
            self.front.lefts, self.front.maybe_lefts = [index], []
            self.front = None
        if self.front_verb is not None:
            side = self.front_verb.rights if self.front_verb.passive else self.front_verb.lefts
            if not side:
                side.append(index)
            self.front_verb = None

    def _maybe_front(self, at: int) -> None:
        """ "next to it a pear": keep waiting for the left side only if it follows at once, or the sentence began so."""
        after = self._at(at + 1)
        if self.front is None or self.sentence_empty:
            return
        waits = after is not None and (after.kind in ("determiner", "number", "be", "many") or "third" in after.verbs)
        if self.pending is None and not waits:
            self.front.lefts, self.front.maybe_lefts = self.front.maybe_lefts[:1], self.front.maybe_lefts[1:]
            self.front = None

    def _beside(self, index: int, last: int) -> None:
        before = self._mention(last)
        mention = self._mention(index)
        if index == last:
            return
        if not before.above:
            mention.beside = [last, *before.beside][:4]
            return
        for link in reversed(self.reading.links[-6:]):
            if last in link.rights and link.kind != "is":
                between = link.name == "between" or (
                    not mention.determined and link.name in ("with", "in", "on", "between")
                )
                (link.rights if between else link.maybe_rights).append(index)
                if between:
                    mention.above = [*link.left()[:1]]
                mention.beside = [last]
                return

    def _parts(self, phrase: Phrase, owner: int) -> None:
        for part, attribute, noun in phrase.parts:
            mention = Mention(part, part, attributes=attribute, of=[noun.noun] if noun else [])
            paired = part in known_words().function["paired"] or part in ("spot", "stripe", "freckle", "dot", "tooth")
            mention.plural, mention.listed, mention.sentence, mention.above = paired, True, self.sentence, [owner]
            self.reading.mentions.append(mention)
            self._add(Link("relation", "with", lefts=[owner], rights=[len(self.reading.mentions) - 1]))

    def _as_attribute(self, mention: Mention) -> None:
        pending, self.pending = self.pending, None
        if pending is None:
            return
        name = "shape" if pending.what == "shape" else "material"
        values = known_words().attributes.get(mention.word, []) + known_words().attributes.get(mention.head, [])
        value = next((v for c, v in values if c == name), mention.head)
        self._describe(pending.to[:1], [(name, value)])
        self._describe(pending.to[:1], [pair for pair in mention.attributes if pair[0] != "vague"])
        self.last = pending.to[0] if pending.to else self.last
        self.negative = False

    def _is_material(self, mention: Mention, to: list[int]) -> bool:
        words = known_words()
        if not to or mention.determined or self._mention(to[0]).head in _HOLDERS or self._mention(to[0]).soft:
            return False
        found = words.attributes.get(mention.word, []) + words.attributes.get(mention.head, [])
        return any(name == "material" for name, _ in found)

    def _dangling(self, phrase: Phrase) -> None:
        """Attributes without a noun: of the subject after "is", else of the thing before ("cars, red, two of them")."""
        if phrase.count is not None and not phrase.attributes and phrase.count > 1 and self.last is not None:
            self._count_of_last(phrase.count, 0)
        if not phrase.attributes:
            return
        if self.pending and self.pending.what in ("material", "shape"):
            pending, self.pending = self.pending, None
            chosen = [p for p in [*phrase.attributes, *phrase.more] if p[0] == pending.what] or phrase.attributes
            self._describe(pending.to[:1], chosen)
            return
        if self.pending and self.pending.what in ("right", "of"):
            target = [i for i in (self.pending.link.lefts if self.pending.link else self.pending.to)][:1]
            self._drop_pending()
        elif self.after_be and self.spoken_for:
            target = self.spoken_for[:1]
        else:
            target = [self.last] if self.last is not None else []
        if self.negative:
            self.reading.lacking += [value for _, value in phrase.attributes]
            self.negative = False
            return
        self._describe(target, phrase.attributes)

    def _describe(self, targets: list[int], attributes: list[tuple[str, str]]) -> None:
        for index in targets:
            mention = self._mention(index)
            mention.attributes += [a for a in attributes if a not in mention.attributes]

    def _count_of_last(self, value: int, at: int) -> None:
        self._close(at)
        if self.last is None:
            return
        mention = self._mention(self.last)
        if mention.count in (None, 1) and not (mention.count == 1 and value == 1 and mention.determined):
            mention.count = value
        self.spoken_for = [self.last]

    # Bookkeeping

    def _count_follows(self, at: int) -> bool:
        """ "boats, azure, two of them": a bare colour before a number is no thing."""
        comma, number = self._at(at + 1), self._at(at + 2)
        return comma is not None and comma.kind == "comma" and number is not None and number.kind == "number"

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
        }

    def _is_verb_soon(self, at: int) -> bool:
        token = self._at(at)
        return token is not None and bool(token.verbs) and not token.listed and not token.attributes

    def _anchor(self, mention: int | None) -> list[int]:
        if mention is not None:
            beside = [i for i in self._mention(mention).beside if not self._mention(i).above]
            return _once([mention, *([] if self.on_top else self._chain(mention)), *beside])
        if self.after_be and self.spoken_for:
            return _once([*self.spoken_for])
        if not self.action_ended and self.last_action is not None:
            action = self.last_action
            return _once(
                [*action.rights, *action.lefts, *action.maybe_lefts]
                if not action.passive
                else [*action.rights, *action.maybe_rights]
            )
        if self.anchor and self.joined != "comma":
            return _once(self.anchor)
        last = [self.last, *self._chain(self.last)] if self.last is not None else []
        return _once([*last, *self.subject])

    def _chain(self, index: int) -> list[int]:
        found: list[int] = []
        while self._mention(index).above and len(found) < 4:
            index = self._mention(index).above[0]
            if index in found:
                break
            found.append(index)
        return found

    def _root(self, index: int) -> int:
        chain = self._chain(index)
        return chain[-1] if chain and not self._mention(index).definite else index

    def _clause_subject(self) -> list[int]:
        return self.subject or self.former

    def _resolve(self, word: str, exclude: set[int]) -> list[int]:
        order = _once([*self.subject, *self.former, *range(len(self.reading.mentions) - 1, -1, -1)][:24])
        sorts = known_words().sorts
        fitting, rest = [], []
        for index in order:
            mention = self._mention(index)
            if index in exclude or mention.negated or mention.soft:
                continue
            person = "person" in sorts.get(mention.head, ())
            many = mention.plural or (mention.count or 1) > 1
            right = {"it": not person and not many, "he": person, "she": person, "him": person}.get(word, many)
            (fitting if right else rest).append(index)
        return [*fitting, *rest]

    def _end_sentence(self) -> None:
        self._drop_pending()
        if self.front is not None:
            self.front.lefts = self.front.lefts or self.front.maybe_lefts[:1]
        self.former = self.subject or self.former
        self.subject, self.spoken_for = [], []
        self.anchor = [*self.former]
        self.front = self.front_verb = self.agent = self.last_action = None
        self.after_be = self.negative = False
        self.action_ended = True
        self.joined = ""
        self.place = ""
        self.sentence += 1
        self.sentence_empty = True

    def _drop_pending(self) -> None:
        self.pending = None

    def _drop_pending_right(self) -> None:
        if self.pending and self.pending.what == "right" and self.pending.link and self.pending.link.name == "with":
            self.reading.links = [x for x in self.reading.links if x is not self.pending.link]

    def _add(self, link: Link) -> None:
        self.reading.links.append(link)

    def _mention(self, index: int) -> Mention:
        return self.reading.mentions[index]

    def _at(self, at: int) -> Token | None:
        return self.tokens[at] if 0 <= at < len(self.tokens) else None

    def _before(self, at: int) -> Token | None:
        return self._at(at - 1)

    def _next(self, at: int) -> Token | None:
        """The next token that isn't an adverb or a filler."""
        for token in self.tokens[at + 1 : at + 4]:
            if token.kind != "filler" and not (token.kind == "word" and token.low.endswith("ly") and not token.listed):
                return token
        return None


_OPENS = ("determiner", "number", "word", "many", "part")
_HOLDERS = {"cup", "bottle", "pile", "stack", "jar", "bucket", "roll", "sheet", "box", "bag", "bowl", "plate", "cup of"}
_NEVER_PASSIVE = {"sit", "stand", "lie", "sleep", "run", "jump", "walk", "go", "come", "swim", "look", "smile", "fall"}
_WITHOUT = {"barefoot": "shoe", "bald": "hair", "shaven": "beard", "cloudless": "cloud"}


def _form(token: Token, phrase: Phrase, after_be: bool) -> tuple[str, str]:
    """The verb form that a token has here."""
    order = (
        ("ing", "participle", "past", "third", "base") if after_be else ("ing", "third", "past", "participle", "base")
    )
    if phrase.nouns and phrase.is_plural() and "base" in token.verbs and "past" in token.verbs:
        order = ("base", *order)
    for form in order:
        if form in token.verbs:
            return form, token.verbs[form]
    return "base", token.low


def _once(indexes: list[int]) -> list[int]:
    return list(dict.fromkeys(indexes))


__all__ = ["Parser", "is_soft"]
