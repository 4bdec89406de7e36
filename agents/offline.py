"""The built-in rewriter: a thesaurus and a few sentence patterns, no language model.

It says the same in the plain words that a built-in world's pipeline was raised on. It stands in for an LLM where there
is no key, and its records say so. For a model without a thesaurus it proposes nothing, and says that.
"""

from __future__ import annotations

import re

from ..phrases import Phrase, Reading, Thesaurus, read_prompt
from ..words import FILLER
from .rewrites import Rewrite, RewriteAnswer, Rewriter, RewriteRequest

_WORDS = {1: "a", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_OF = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_TURNED = {"left": "right", "right": "left", "above": "below", "below": "above"}


NO_THESAURUS = (
    "the offline rewriter has no thesaurus for this model and proposed nothing; an LLM writes for any model: set "
    "OPENAI_API_KEY or --llm-base-url"
)


class OfflineRewriter:
    """Rewrites from the prompt's parts, in a fixed order of strategies; deterministic. `thesaurus` is the world's."""

    name = "built-in offline rewriter (a thesaurus, no language model)"
    calls_llm = False

    def __init__(self, thesaurus: Thesaurus | None):
        self.thesaurus = thesaurus

    def rewrite(self, request: RewriteRequest) -> RewriteAnswer:
        """Up to `request.count` rewrites that were not tried before."""
        if self.thesaurus is None:
            return RewriteAnswer([], notes=[NO_THESAURUS])
        reading = read_prompt(request.prompt, self.thesaurus)
        seen = {t.prompt.casefold() for t in request.tried}
        rewrites: list[Rewrite] = []
        for strategy, text in _proposals(request.prompt, reading, self.thesaurus):
            if text.casefold() not in seen and len(rewrites) < request.count:
                seen.add(text.casefold())
                rewrites.append(Rewrite(strategy, text))
        notes = ["the offline rewriter knows no directions; an LLM does"] if request.direction else []
        return RewriteAnswer(rewrites, notes=notes)


def no_words(rewriter: Rewriter | None, thesaurus: Thesaurus | None) -> bool:
    """Whether nobody can reword prompts for a model with this thesaurus."""
    return thesaurus is None and (rewriter is None or isinstance(rewriter, OfflineRewriter))


def _proposals(prompt: str, reading: Reading, thesaurus: Thesaurus):
    things = reading.phrases
    for turned in (False, True):
        for style in ("word", "digit", "one"):
            for behind in ("on", "comma"):
                if things and not (behind == "comma" and not reading.background):
                    name = {
                        "word": "plain words",
                        "digit": "plain words, digits",
                        "one": "plain words, numbers spelled out",
                    }
                    extra = (", order turned" if turned else "") + (", background set off" if behind == "comma" else "")
                    text = _sentence(reading, thesaurus, turned, style, behind)
                    if text:
                        yield name[style] + extra, text
    kept = [w for w in re.findall(r"[^\s,;]+[,;]?", prompt) if re.sub(r"\W", "", w).lower() not in FILLER]
    yield "drop clutter", " ".join(kept).strip(" ,;")


def _sentence(reading: Reading, thesaurus: Thesaurus, turned: bool, style: str, behind: str) -> str | None:
    things = reading.phrases[::-1] if turned else reading.phrases
    if turned and len(things) != 2:
        return None
    parts = [_noun_phrase(p, thesaurus, style) for p in things]
    if len(things) == 2 and reading.relations:
        side = reading.relations[0][1]
        text = f"{parts[0]} {_OF[_TURNED[side] if turned else side]} {parts[1]}"
    else:
        text = " and ".join(parts)
    if reading.background:
        text += f" on a {reading.background} background" if behind == "on" else f", {reading.background} background"
    quoted = "".join(f', "{q}"' for q in reading.quoted)
    return text + quoted


def _noun_phrase(phrase: Phrase, thesaurus: Thesaurus, style: str) -> str:
    noun = phrase.head if phrase.count in (None, 1) else thesaurus.plural(phrase.head)
    rest = " ".join([*sorted(phrase.colours), noun])
    if phrase.count is None:
        return rest
    if style == "digit":
        return f"{phrase.count} {rest}"
    if phrase.count == 1:
        return f"one {rest}" if style == "one" else f"{'an' if rest[0] in 'aeiou' else 'a'} {rest}"
    return f"{_WORDS.get(phrase.count, phrase.count)} {rest}"
