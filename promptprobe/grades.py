"""How a predicted reward stands among what the model makes, by what the judge knows of its predictions."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .judges import Judge


def grade_of(judge: Judge, predicted: float, step: int, steps: int) -> int | None:
    """Of 100 images of the model, how many are predicted to be worse; None where the judge has no quantiles."""
    if not judge.calibrated:
        return None
    try:
        bounds = [judge.quantile(i / 100, step, steps) for i in range(101)]
    except InputError:  # a weighted sum of heads
        return None
    return min(bisect_left(bounds, predicted), 100)


def grade_in_words(grade: int | None) -> str:
    """A grade for people; empty for none."""
    return "" if grade is None else f"above {grade} of 100 images of this model"


def interval_of(judge: Judge, predicted: float, step: int, steps: int) -> list[float] | None:
    """Between which two bounds eight of ten rewards lie; None where the judge does not know."""
    if not judge.calibrated:
        return None
    try:
        low, high = (predicted - judge.surely(0.0, chance, step, steps) for chance in (0.9, 0.1))
    except InputError:  # a weighted sum of heads
        return None
    return [round(low, 5), round(high, 5)]
