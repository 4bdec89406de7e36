"""Which columns of the text encoder's output belong to which words of the prompt.

Comes in: a pipeline and a prompt. Goes out: the prompt's own token columns (no begin, end or padding), and words,
merged from sub-word tokens by their character spans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .backbones import backbone_of
from .errors import InputError


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


def clean_prompt(prompt: str) -> str:
    """The prompt with surrounding blanks removed.

    Raises `InputError` for an empty or blank prompt.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty; give at least one word")
    return " ".join(prompt.split())


def tokenize_prompt(pipeline, prompt: str, settings: Mapping[str, Any] | None = None) -> PromptTokens:
    """Tokenize as the pipeline does with `settings`, and find the words; a template's own tokens are left out.

    Raises `InputError` when no token of the prompt is left.
    """
    row = backbone_of(pipeline)
    tokenizer = getattr(pipeline, row.tokenizer(pipeline))
    settings = {**row.defaults, **(settings or {})}
    text = row.wrap(pipeline, prompt, settings)
    begin = text.lower().rfind(prompt.lower())  # some pipelines work in lower case
    if begin < 0 or len(text.lower()) != len(text):
        raise InputError(f"the prompt {prompt!r} can't be located in what {type(pipeline).__name__} makes of it")
    end = begin + len(prompt)
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
    if row.right_aligned:  # counted from the end: how much padding there is depends on the batch
        shift -= min(len(spans), row.length(pipeline, settings))
    words = []
    for match in re.finditer(r"\w+(?:['’-]\w+)*", prompt):
        inside = tuple(
            n for n, i in enumerate(kept) if spans[i][0] - begin < match.end() and spans[i][1] - begin > match.start()
        )
        if inside:
            words.append(Word(match.group(), match.start(), match.end(), inside))
    return PromptTokens(prompt, tuple(i + shift for i in kept), tuple(words), len(own) - len(kept), limit)
