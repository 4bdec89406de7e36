"""The judge `focus`: how compactly the image looks at the prompt's words. Nothing is trained, nothing is decoded.

Compact attention early on goes with objects that will be there (Diffusion Probe, arXiv:2602.23783, §3.2).
"""

from __future__ import annotations

from typing import Any

import torch

from ..backbones import probed_blocks
from ..diagnosis import focus_of, word_maps
from ..errors import InputError
from ..observation import Observation
from ..tokens import PromptTokens
from .base import Judge, Judgement, Needs, by_row


class FocusJudge(Judge):
    """The mean focus of a prompt's words, 0..1. It compares seeds and wordings; it is no reward and has no scale."""

    name = "focus"
    label = "focus"

    def __init__(self, pipeline: Any):
        self.needs = Needs(tuple(probed_blocks(pipeline)))

    def judge(self, seen: Observation) -> list[Judgement]:
        """Raises `InputError` when the words are not known."""
        if seen.tokens is None:
            raise InputError("focus is that of words, and this observation has no words")
        maps = seen.only(self.needs.blocks).maps
        return by_row([_mean_focus(maps[i], tokens) for i, tokens in enumerate(seen.tokens)])


def _mean_focus(maps: torch.Tensor, tokens: PromptTokens) -> float:
    return float(focus_of(word_maps(maps, tokens)).mean()) if tokens.words else 0.0
