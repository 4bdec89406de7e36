"""The intent guard: a rewrite must keep what the person asked for, or the agent wins by dropping the hard part.

Comes in: the original prompt and a rewrite. Goes out: what was lost, in words; nothing lost means it may compete.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..phrases import ENGLISH, Phrase, Reading, opposite, read_prompt
from ..worlds import DEFAULT, thesaurus_of


def lost(original: str, rewrite: str) -> list[str]:
    """Objects, counts, colours, relations, background, quoted text and names of `original` that `rewrite` dropped."""
    words = thesaurus_of(DEFAULT) or ENGLISH
    wanted, given = read_prompt(original, words), read_prompt(rewrite, words)
    missing = [f'text "{q}"' for q in wanted.quoted if q not in rewrite]
    missing += [f"name {n}" for n in wanted.names if n.lower() not in rewrite.lower()]
    for phrase in wanted.phrases:
        missing += _lost_phrase(phrase, given)
    if wanted.background and given.background != wanted.background:
        missing.append(f"{wanted.background} background")
    told = set(given.relations) | {opposite(r) for r in given.relations}
    for a, side, b in wanted.relations:
        # A relation told in a way that the reading can't pair up passes; one told the wrong way round doesn't.
        if (a, side, b) not in told and (given.relations or side not in given.sides):
            missing.append(f"{a} {side} {b}")
    for head in dict.fromkeys(p.head for p in wanted.phrases):
        if sum(p.head == head for p in given.phrases) > sum(p.head == head for p in wanted.phrases):
            missing.append(f"one {head} too many")
    return list(dict.fromkeys(missing))


def lost_words(keep: Sequence[str], rewrite: str) -> list[str]:
    """The words of `keep`, pinned by the person, that `rewrite` does not have."""
    given = {w.casefold() for w in re.findall(r"\w+", rewrite)}
    return [f"pinned word {w}" for w in keep if w.casefold() not in given]


def _lost_phrase(phrase: Phrase, given: Reading) -> list[str]:
    same = [p for p in given.phrases if phrase.head == p.head or phrase.head in p.others]
    if not same:
        return [f"object {phrase.head}"]
    if not any(_same_count(phrase.count, p.count) for p in same):
        return [f"count {phrase.count} of {phrase.head}" if phrase.count else f"{phrase.head} without a count"]
    fitting = [p for p in same if _same_count(phrase.count, p.count)]
    lacking = min((phrase.colours - p.colours for p in fitting), key=len)
    if lacking:
        return [f"colour {c} of {phrase.head}" for c in sorted(lacking)]
    added = min((p.colours - phrase.colours for p in fitting), key=len)
    return [f"{phrase.head} became {c}" for c in sorted(added)] if phrase.colours and added else []


def _same_count(wanted: int | None, given: int | None) -> bool:
    return wanted is None or wanted == given or (wanted == 1 and given is None)
