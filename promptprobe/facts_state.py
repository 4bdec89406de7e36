"""What the pass over a prompt's tokens knows at each moment: the clause's subject, what is still awaited, what was named."""

from __future__ import annotations

from dataclasses import dataclass, field

from .facts_phrases import Phrase
from .facts_reading import Link, Mention, Reading
from .facts_tokens import Token
from .facts_words import known_words


@dataclass
class Pending:
    """What the next noun phrase is: the right side of a link, the material or the shape of a thing, ..."""

    what: str  # right, left, object, agent, of, material, shape, owner, aside
    link: Link | None = None
    to: list[int] = field(default_factory=list)


class State:
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
        self.relative = False  # "a kite that": what follows may have a subject of its own, "a boy flies"
        self.sentence = 0
        self.sentence_empty = True
        self.last: int | None = None
        self.on_top = False  # did the last phrase begin its clause, hanging on nothing?

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
        fitting: list[int] = []
        rest: list[int] = []
        for index in order:
            mention = self._mention(index)
            if index in exclude or mention.negated or mention.soft:
                continue
            person = "person" in sorts.get(mention.head, ())
            many = mention.plural or (mention.count or 1) > 1
            if not (mention.listed or mention.determined):
                rest.append(index)  # a name, mostly of a place
                continue
            right = {
                "it": not person and not many,
                "itself": not person and not many,
                "he": person,
                "she": person,
                "him": person,
                "her": person,
                "himself": person,
                "herself": person,
            }.get(word, many)
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
        self.after_be = self.negative = self.relative = False
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

    def _describe(self, targets: list[int], attributes: list[tuple[str, str]]) -> None:
        for index in targets:
            mention = self._mention(index)
            mention.attributes += [a for a in attributes if a not in mention.attributes]

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

    def _ends(self, at: int) -> bool:
        return at > 0 and self.tokens[at - 1].kind in ("comma", "stop")

    def _starts(self, at: int) -> bool:
        return at == 0 or self.tokens[at - 1].kind == "stop"

    def _is_alive(self, index: int) -> bool:
        return bool({"person", "animal"} & known_words().sorts.get(self._mention(index).head, set()))


def _once(indexes: list[int]) -> list[int]:
    return list(dict.fromkeys(indexes))
