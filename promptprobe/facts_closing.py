"""Where a noun phrase goes when it ends: to what awaited it, to the thing that it names again, or to the things beside it."""

from __future__ import annotations

from .facts_phrases import Phrase, make_mention, merge_into
from .facts_reading import Link, Mention
from .facts_state import State
from .facts_words import known_words


class Closing(State):
    """A pass that can end noun phrases."""

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
        if len(phrase.nouns) > 1 and (phrase.count or 1) > 1 and phrase.one and not phrase.nouns[-1].plural:
            phrase.parts.append((phrase.nouns.pop(0).noun, [], None, phrase.count))  # "a three-tier cake"
            phrase.count = 1
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
            mention.soft = mention.soft or (link.negated and not mention.definite)
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
            passive = self.front_verb.passive
            side = self.front_verb.rights if passive else self.front_verb.lefts
            if "part" in known_words().sorts.get(self._mention(index).head, ()) and not side:
                # "balancing, arms up, a dancer"
                (self.front_verb.maybe_rights if passive else self.front_verb.maybe_lefts).append(index)
                return
            if not side:
                side.append(index)
            self.front_verb = None

    def _maybe_front(self, at: int, pronoun: bool = False) -> None:
        """ "next to it a pear": keep waiting for the left side only if it follows at once, or the sentence began so."""
        after = self._at(at + 1)
        if self.front is None or self.sentence_empty:
            return
        waits = after is not None and (after.kind in ("determiner", "number", "be", "many") or "third" in after.verbs)
        later = self._at(at + 2)
        inverted = (
            after is not None and "base" in after.verbs and later is not None and later.kind in ("determiner", "number")
        )
        waits = waits or inverted  # "on the ice walk a bear and two cubs"
        aside = pronoun and after is not None and after.kind == "comma"  # "and, beside it, a pear"
        waits = waits or (aside and later is not None and later.kind in ("determiner", "number"))
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
        mention.beside = [last]
        for link in reversed(self.reading.links[-6:]):
            if last in link.lefts and link.kind == "relation" and link.rights and last not in link.rights:
                link.maybe_lefts.append(index)  # "filled with lemons and oranges"
                return
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
        for part, attribute, noun, count in phrase.parts:
            mention = Mention(part, part, attributes=attribute, of=[noun.noun] if noun else [], count=count)
            paired = part in known_words().function["paired"] or part in ("spot", "stripe", "freckle", "dot", "tooth")
            paired = paired or (count or 1) > 1
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
        if not to or mention.determined or self._mention(to[0]).soft:
            return False
        if self._mention(to[0]).head in _HOLDERS and mention.head not in _NOT_HELD:
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

    def _count_of_last(self, value: int, at: int) -> None:
        self._close(at)
        if self.last is None:
            return
        mention = self._mention(self.last)
        if mention.count in (None, 1) and not (mention.count == 1 and value == 1 and mention.determined):
            mention.count = value
        self.spoken_for = [self.last]


_NOT_HELD = {"glass", "metal", "plastic", "wood", "porcelain", "steel", "tin"}  # "a bottle of green glass"
_HOLDERS = {"cup", "bottle", "pile", "stack", "jar", "bucket", "roll", "sheet", "box", "bag", "bowl", "plate", "cup of"}
