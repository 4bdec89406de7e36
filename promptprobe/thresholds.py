"""τ in the forms that people give it in, as a number."""

from __future__ import annotations

import math
import re

from .errors import InputError
from .judges import Judge
from .runner import Runner

AUTO = "q0.8"  # of a calibrated judge
_CHANCE = r"(0(?:\.\d+)?|1(?:\.0+)?|\.\d+)"


def read_tau(tau: str | float, judge: Judge, step: int, steps: int) -> float:
    """τ as a number: given as one, as `q0.8`, the quantile of predicted rewards on the validation set of the judge's
    probe, or as `0.9@0.8`: the predicted reward from which on the reward exceeds 0.9 with probability 0.8.

    Only a calibrated judge of one reward knows the last two; of any other, τ must be a number. Raises `InputError` when
    it is none of these.
    """
    match = re.fullmatch("q" + _CHANCE, str(tau).strip())
    if match:
        return judge.quantile(float(match[1]), step, steps)
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?|-?\.\d+)@" + _CHANCE, str(tau).strip())
    if match:
        return judge.surely(float(match[1]), float(match[2]), step, steps)
    try:
        value = float(tau)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"tau is {tau!r}; give a number, a quantile from q0 to q1 such as q0.8, "
            "or reward@probability such as 0.9@0.8"
        )
    return value


def threshold(tau: str | float, scorer: Runner) -> float | None:
    """τ for a scorer, as `read_tau` reads it of its judge at its probe step; `auto` is a quantile where the judge has
    some, else None: then wordings are only compared with each other."""
    if tau == "auto":
        if not scorer.judge.calibrated or len(scorer.judge.objective) > 1:
            return None
        tau = AUTO
    return read_tau(tau, scorer.judge, scorer.probe_step, scorer.steps)
