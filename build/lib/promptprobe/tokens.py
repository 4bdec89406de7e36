"""Which columns of the text encoder's output belong to which words of the prompt.

Comes in: a pipeline and a prompt. Goes out: the prompt's own token columns (no begin, end or padding), and words,
merged from sub-word tokens by their character spans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
    """A tokenized prompt. `columns` are positions in the text encoder's output; `cut` counts tokens that didn't fit."""

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


def token_limit(tokenizer) -> int:
    """How many tokens of a prompt the text encoder can take, begin and end marks not counted."""
    return int(tokenizer.model_max_length) - tokenizer.num_special_tokens_to_add()


def tokenize_prompt(pipeline, prompt: str) -> PromptTokens:
    """Tokenize as the pipeline does, and find the words.

    Raises `InputError` when no token of the prompt is left.
    """
    tokenizer = pipeline.tokenizer
    encoding = tokenizer(prompt, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    own = [
        (column, span)
        for column, (span, special) in enumerate(
            zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
        )
        if not special and span[1] > span[0]
    ]
    limit = token_limit(tokenizer)
    kept = own[:limit]
    if not kept:
        raise InputError(f"the prompt {prompt!r} has no token that the text encoder knows")
    words = []
    for match in re.finditer(r"\w+(?:['’-]\w+)*", prompt):
        inside = tuple(i for i, (_, (a, b)) in enumerate(kept) if a < match.end() and b > match.start())
        if inside:
            words.append(Word(match.group(), match.start(), match.end(), inside))
    return PromptTokens(prompt, tuple(c for c, _ in kept), tuple(words), len(own) - len(kept), limit)
