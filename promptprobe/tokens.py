"""Which columns of the text encoder's output belong to which words of the prompt.

Comes in: a pipeline and a prompt. Goes out: the prompt's own token columns (no begin, end or padding), and words,
merged from sub-word tokens by their character spans.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from .backbones import Backbone, backbone_of, default_setting
from .errors import InputError
from .text import clean_prompt as clean_prompt
from .text import clean_prompts as clean_prompts
from .text import find_words, whole_pairs

_MARK = "\u2042"  # stands in no template


@dataclass(frozen=True)
class Word:
    """A word of the prompt: `prompt[start:end]`, and its places in `PromptTokens.columns`."""

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class PromptTokens:
    """A tokenized prompt. `columns` are positions in the text encoder's output, negative ones from its end; `cut` counts tokens that didn't fit."""

    prompt: str
    columns: tuple[int, ...]
    words: tuple[Word, ...]
    cut: int
    limit: int


def tokenize_prompt(pipeline, prompt: str, settings: Mapping[str, Any] | None = None) -> PromptTokens:
    """Tokenize as the pipeline does with `settings`, and find the words; a template's own tokens are left out.

    Raises `InputError` when no token of the prompt is left.
    """
    row = backbone_of(pipeline)
    tokenizer = getattr(pipeline, row.tokenizer(pipeline))
    settings = {**row.defaults, **(settings or {})}
    prompt = whole_pairs(prompt)
    text, begins, ends = _several_vectors(pipeline, tokenizer, *_located(pipeline, row, prompt, settings))
    begin, end = begins[0], ends[-1]
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    spans = encoding["offset_mapping"]
    special = encoding["special_tokens_mask"]
    own = [i for i, (a, b) in enumerate(spans) if not special[i] and b > a and a < end and b > begin]
    # The text encoder's length includes what stands around the prompt: marks at both ends or a template's head.
    around = own[0] + (len(spans) - own[-1] - 1 if row.wrap(pipeline, "", settings) == "" else 0) if own else 0
    limit = row.length(pipeline, settings) - around
    kept = own[: max(limit, 0)]
    if not kept:
        raise InputError(f"the prompt {prompt!r} has no token that the text encoder knows or has room for")
    shift = row.before(pipeline) - row.dropped(pipeline, settings)
    if (
        row.right_aligned(pipeline) if callable(row.right_aligned) else row.right_aligned
    ):  # counted from the end: how much padding there is depends on the batch
        shift -= min(len(spans), row.length(pipeline, settings))
    starts = {a for a, _ in (spans[i] for i in kept)}
    words = []
    for a, b in find_words(prompt, {n for n, place in enumerate(begins) if place in starts}):
        inside = tuple(n for n, i in enumerate(kept) if spans[i][0] < ends[b] and spans[i][1] > begins[a])
        if inside:
            words.append(Word(prompt[a:b], a, b, inside))
    return PromptTokens(prompt, tuple(i + shift for i in kept), tuple(words), len(own) - len(kept), limit)


def _located(pipeline, row: Backbone, prompt: str, settings: Mapping[str, Any]) -> tuple[str, list[int]]:
    """The text that the pipeline makes of a prompt, and where each of the prompt's characters (and its end) lies in it.

    The place is found with a mark in the prompt's stead: a prompt such as "assistant" may also stand in a template.
    """
    text = row.wrap(pipeline, prompt, settings)
    begin = row.wrap(pipeline, _MARK, settings).find(_MARK)
    if begin >= 0 and text.startswith(prompt, begin):
        return text, list(range(begin, begin + len(prompt) + 1))
    # Some pipelines work in lower case, which may be longer: İ becomes i and a dot above.
    if begin >= 0 and text.startswith(prompt.lower(), begin):
        return text, list(accumulate((len(c.lower()) for c in prompt), initial=begin))
    raise InputError(f"the prompt {prompt!r} can't be located in what {type(pipeline).__name__} makes of it")


def _several_vectors(pipeline, tokenizer, text: str, places: list[int]) -> tuple[str, list[int], list[int]]:
    """The text that is encoded, and where each of the prompt's characters begins in it and where the one before ends.

    A learned word of several vectors (textual inversion) is told the encoder as one word for each: `<cat> <cat>_1 ...`.
    Raises `InputError` where they can't be told apart from what stands beside them.
    """
    convert = getattr(pipeline, "maybe_convert_prompt", None)
    if convert is None:
        return text, places, places
    whole = convert(text, tokenizer)
    if whole == text:
        return text, places, places
    learned = {t for t in tokenizer.tokenize(text) if f"{t}_1" in tokenizer.added_tokens_encoder}
    made, begin_of, end_of = "", [0], [0]  # of each character of the text
    for part in re.split("(" + "|".join(map(re.escape, sorted(learned, key=len, reverse=True))) + ")", text):
        longer = convert(part, tokenizer) if part in learned else part
        at = len(made)
        made += longer
        for n in range(1, len(part) + 1):
            end = n == len(part)
            begin_of.append(len(made) if end else at if part in learned else at + n)
            end_of.append(len(made) if end or part in learned else at + n)
    if made != whole:
        raise InputError(f"the learned words {', '.join(sorted(learned))} can't be told apart; give blanks around them")
    return whole, [begin_of[n] for n in places], [end_of[n] for n in places]


def with_length(pipeline: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a length of text that the encoder has places for, where the pipeline's own default is longer.

    Raises `InputError` for a `max_sequence_length` of the user's own that is longer, or no number of tokens.
    """
    given = settings.get("max_sequence_length")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise InputError(f"max_sequence_length is {given!r:.80}; give a whole number of tokens, at least 1")
    encoder = getattr(pipeline, backbone_of(pipeline).tokenizer(pipeline).replace("tokenizer", "text_encoder"), None)
    most = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    if not isinstance(most, int) or "max_sequence_length" not in inspect.signature(pipeline.__call__).parameters:
        return dict(settings)
    if given is not None and given > most:
        raise InputError(
            f"max_sequence_length is {given}; {type(encoder).__name__} reads at most {most} tokens: give {most} or less"
        )
    short = given is None and default_setting(pipeline, "max_sequence_length") > most
    return {**settings, **({"max_sequence_length": most} if short else {})}
