"""What the attention says about each word: how strongly and how compactly the image looks at it.

Comes in: token maps of one prompt. Goes out: a `WordDiagnosis` per word. Compact attention early on goes with objects
that will be there, diffuse attention with those that won't (Diffusion Probe, arXiv:2602.23783, §3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .phrases import read_prompt, singular
from .tokens import PromptTokens

DIFFUSE_SHARE = 0.6  # of the most focused object's focus
DIFFUSE_FOCUS = 0.05


@dataclass(frozen=True)
class WordDiagnosis:
    """A word's attention at the probe step.

    `focus` is 1 minus the map's entropy over its maximum: 0 for a uniform map, 1 for a single point. `strength` is the
    mean attention probability. `diffuse` marks an object that should be seen somewhere and is seen everywhere.
    """

    word: str
    start: int
    end: int
    focus: float
    strength: float
    diffuse: bool


def word_maps(maps: torch.Tensor, tokens: PromptTokens) -> torch.Tensor:
    """Maps of words `[words, height, width]` from token maps `[tokens, blocks, height, width]`, means over both."""
    return torch.stack([maps[list(w.tokens)].mean((0, 1)) for w in tokens.words])


def focus_of(planes: torch.Tensor) -> torch.Tensor:
    """How compact each of `planes` `[words, ...]` is, 0..1: `[words]`."""
    p = planes.flatten(1)
    p = p / p.sum(1, keepdim=True).clamp_min(1e-12)
    entropy = -(p * p.clamp_min(1e-12).log()).sum(1)
    return (1 - entropy / math.log(p.shape[1])).clamp(0, 1)


def diagnose(maps: torch.Tensor, tokens: PromptTokens) -> list[WordDiagnosis]:
    """Diagnose every word of a prompt from token maps `[tokens, blocks, height, width]`."""
    if not tokens.words:
        return []
    planes = word_maps(maps, tokens).flatten(1)
    strength = planes.mean(1)
    focus = focus_of(planes)
    objects = {p.head for p in read_prompt(tokens.prompt).phrases}
    seen = [singular(w.text.lower()) in objects for w in tokens.words]
    highest = max((float(f) for f, s in zip(focus, seen, strict=True) if s), default=0.0)
    return [
        WordDiagnosis(
            w.text, w.start, w.end, round(float(focus[i]), 4), round(float(strength[i]), 5),
            seen[i] and float(focus[i]) < max(DIFFUSE_SHARE * highest, DIFFUSE_FOCUS),
        )
        for i, w in enumerate(tokens.words)
    ]  # fmt: skip
