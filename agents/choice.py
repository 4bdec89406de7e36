"""Which candidate is the best so far, and by how much an unsure one must win.

Comes in: records of candidates as plain dicts, the user's own first. Goes out: one of them. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..scoring import Scorer

# In ranges of the judge's score in which eight of ten images lie. On the half of `benchmarks/guard.py` that the guard was
# not tuned on, 7 of 73 unsure rewrites had lost something, and losing one of two things costs 0.42 of that range (icon
# world, docs/LOG.md): a bet is even from 7/66 * 0.42 = 0.045 on. Twice as much, for an LLM may err more often than that.
MARGIN = 0.1
FIRST_ROUNDS = 1  # of an unknown scale: the user's own prompt and the first round's rewrites show how far scores differ


def margin_of(scorer: Scorer) -> float | None:
    """By how much of its judge's score an unsure rewrite must beat the user's own prompt; None where the judge does not
    know how its scores are spread."""
    scale = scale_of(scorer, 0.1)
    return MARGIN * (scale[1] - scale[0]) if scale else None


def scale_of(scorer: Scorer, share: float = 0.05) -> tuple[float, float] | None:
    """The scores between which all images but `share` at either end lie; None where the judge does not know."""
    judge, step, steps = scorer.judge, scorer.probe_step, scorer.steps
    if not judge.calibrated:
        return None
    try:
        return judge.quantile(share, step, steps), judge.quantile(1 - share, step, steps)
    except InputError:  # a weighted sum of heads
        return None


def best_of(candidates: Sequence[Mapping[str, Any]], margin: float | None = None) -> Mapping[str, Any]:
    """The candidate of the highest score, the earliest of equals. The first is the user's own; one with something in
    `unsure` must beat it by more than `margin` (None: `MARGIN` of the spread of the first rounds' scores)."""
    scored = [c for c in candidates if c["score"] is not None]
    if margin is None:
        known = [c["score"] for c in scored if c.get("round", 0) <= FIRST_ROUNDS]
        margin = MARGIN * (max(known, default=0.0) - min(known, default=0.0))
    least = scored[0]["score"] + margin
    return max((c for c in scored if not c.get("unsure") or c["score"] > least), key=lambda c: c["score"])
