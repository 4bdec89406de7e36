"""What passes between the loop and a rewriter, and how a model's answer is read.

Comes in: text of a language model. Goes out: wordings, cleaned and bounded. Everything in it is data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..diagnosis import WordDiagnosis

MAX_REWRITE_CHARACTERS = 2000


@dataclass(frozen=True)
class Try:
    """A prompt that was scored already."""

    prompt: str
    score: float


@dataclass(frozen=True)
class RewriteRequest:
    """What a rewriter may know. `token_limit` is the text encoder's, without begin and end marks. `direction` is the
    person's wish in words, `keep` are words that must stay as they are; both may be empty."""

    prompt: str
    score: float
    tau: float
    words: Sequence[WordDiagnosis]
    tried: Sequence[Try]
    count: int
    token_limit: int
    round: int = 1
    direction: str = ""
    keep: Sequence[str] = ()


@dataclass(frozen=True)
class Rewrite:
    """A proposed wording and the named strategy behind it."""

    strategy: str
    prompt: str


@dataclass
class RewriteAnswer:
    """What came back. `notes` says in words what went wrong, without any secret; after a `final` one, such as a refused
    key, asking again is of no use."""

    rewrites: list[Rewrite]
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    notes: list[str] = field(default_factory=list)
    final: bool = False


class Rewriter(Protocol):
    """Anything with a name that proposes wordings."""

    name: str
    calls_llm: bool

    def rewrite(self, request: RewriteRequest) -> RewriteAnswer: ...


def parse_rewrites(text: str, count: int) -> list[Rewrite]:
    """Rewrites in a model's answer: JSON wherever it stands, complete objects of a cut-off answer, else list lines.

    Thoughts and code fences are dropped, control characters removed, over-long or empty prompts left out.
    """
    text = re.sub(r"<think>.*?(</think>|\Z)", "", text, flags=re.S)
    text = re.sub(r"```\w*", "", text).strip()
    found: list[Rewrite] = []
    for value in _json_values(text):
        items = value.get("rewrites", [value]) if isinstance(value, dict) else value
        for item in items if isinstance(items, list) else []:
            if isinstance(item, str):
                found.append(Rewrite("unnamed", item))
            elif isinstance(item, Mapping) and isinstance(item.get("prompt"), str):
                strategy = item.get("strategy")
                found.append(Rewrite(strategy if isinstance(strategy, str) else "unnamed", item["prompt"]))
    if not found and "{" not in text:
        lines = re.findall(r"^\s*(?:\d+[.)]|[-*•])\s+(.+)$", text, flags=re.M)
        found = [Rewrite("unnamed", line) for line in lines]
    cleaned = [Rewrite(clean_text(r.strategy)[:60] or "unnamed", _unquoted(clean_text(r.prompt))) for r in found]
    return [r for r in cleaned if 0 < len(r.prompt) <= MAX_REWRITE_CHARACTERS][:count]


def _json_values(text: str):
    """Top-level JSON values in a text, or, when it is broken, the complete objects inside it."""
    decoder = json.JSONDecoder()
    at = 0
    while (at := min((i for i in (text.find("{", at), text.find("[", at)) if i >= 0), default=-1)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
            yield value
        except (ValueError, RecursionError):
            at += 1


def clean_text(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole; quoted text inside stays."""
    pairs = {'"': '"', "'": "'", "“": "”"}
    inner = text[1:-1]
    return inner.strip() if len(text) > 1 and pairs.get(text[0]) == text[-1] and text[0] not in inner else text
