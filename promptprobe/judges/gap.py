"""The judge `gap`: how far the prompt has pulled so far. Nothing is trained, nothing is decoded, guidance is needed.

Trajectories whose predictions with and without the prompt differ more end in denser regions (CFG-Rejection,
arXiv:2505.23343, which drops those with the smallest sum; there ten of 32 steps were enough).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..guidance import is_guided
from ..observation import Observation
from .base import Judge, Judgement, Needs, by_row


class GapJudge(Judge):
    """The guidance gap, summed over the steps. It compares seeds of a prompt; between wordings it says little, and it
    has no scale."""

    name = "gap"
    label = "gap"
    needs = Needs(gap=True, maps=False)

    def judge(self, seen: Observation) -> list[Judgement]:
        """Raises `InputError` when no gap was measured from the first step on."""
        if seen.gap is None:
            raise InputError(_NO_GAP)
        return by_row(seen.gap.tolist())

    def check(
        self, pipeline: Any, *, steps: int, probe_step: int, early_step: int | None, settings: Mapping[str, Any]
    ) -> list[str]:
        if not is_guided(pipeline, settings):
            raise InputError(_NO_GAP)
        return super().check(
            pipeline, steps=steps, probe_step=probe_step, early_step=early_step, settings=settings
        )  # fmt: skip


_NO_GAP = (
    "the judge gap needs guidance by two predictions a step, with and without the prompt, and this run makes one; raise "
    "--guidance above 1 (FLUX.1, Qwen-Image: --pipe-arg true_cfg_scale=4 and --negative TEXT), or use --judge preview or focus"
)
