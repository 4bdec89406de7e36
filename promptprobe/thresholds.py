"""τ in the forms that people give it in, as a number."""

from __future__ import annotations

from .forms import read_tau_form
from .judges import Judge
from .runner import Runner

AUTO = "balanced"  # of a calibrated judge


def read_tau(tau: str | float, judge: Judge, step: int, steps: int) -> float:
    """τ as a number: given as one, as `balanced`, where a gate makes the fewest mistakes of both kinds, as `q0.8`, the
    quantile of predicted rewards on the validation set of the judge's probe, or as `0.9@0.8`: the predicted reward from
    which on the reward exceeds 0.9 with probability 0.8.

    Only a calibrated judge of one reward knows the last three; of any other, τ must be a number. Raises `InputError` when
    it is none of these.
    """
    value, share = read_tau_form(tau)
    if share is None:
        return judge.balanced(step, steps) if value is None else value
    return judge.quantile(share, step, steps) if value is None else judge.surely(value, share, step, steps)


def threshold(tau: str | float, scorer: Runner) -> float | None:
    """τ for a scorer, as `read_tau` reads it of its judge at its probe step; `auto` is a quantile where the judge has
    some, else None: then wordings are only compared with each other."""
    if tau == "auto":
        if not scorer.judge.calibrated or len(scorer.judge.objective) > 1:
            return None
        tau = AUTO
    return read_tau(tau, scorer.judge, scorer.probe_step, scorer.steps)
