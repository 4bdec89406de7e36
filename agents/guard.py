"""The intent guard: a rewrite must keep what the person asked for, or the agent wins by dropping the hard part.

Comes in: the original prompt and a rewrite. Goes out: what was lost, in words; nothing lost means it may compete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..facts_compare import Verdict, compare
from .fact_check import FACT_CHECK_SCHEMA, fact_check_request, read_fact_check, settle


def lost(original: str, rewrite: str, thesaurus: Mapping[str, str] | None = None) -> list[str]:
    """What `rewrite` surely lost of `original`, or added to it; nothing means that it may compete."""
    return list(compare(original, rewrite, thesaurus=thesaurus).lost)


def unsure(original: str, rewrite: str, thesaurus: Mapping[str, str] | None = None) -> list[str]:
    """What code can't decide: kept in other words, or gone. Such a rewrite must win by a margin."""
    return list(compare(original, rewrite, thesaurus=thesaurus).unsure)


def lost_words(keep: Sequence[str], rewrite: str) -> list[str]:
    """The words of `keep`, pinned by the person, that `rewrite` does not have."""
    return [f"pinned word {w}" for w in keep if not has_word(w, rewrite)]


def has_word(word: str, text: str) -> bool:
    """Whether a word stands in a text as a whole, or anywhere in it where its script puts no spaces between words."""
    word, text = word.casefold(), text.casefold()
    if re.search(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]", word):
        return word in text
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


__all__ = [
    "FACT_CHECK_SCHEMA",
    "Verdict",
    "compare",
    "fact_check_request",
    "has_word",
    "lost",
    "lost_words",
    "read_fact_check",
    "settle",
    "unsure",
]
