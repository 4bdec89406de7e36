"""τ in the forms that people give it in, as a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from .errors import InputError
from .probe import Probe
from .scoring import Scorer

_CHANCE = r"(0(?:\.\d+)?|1(?:\.0+)?|\.\d+)"


def read_tau(
    tau: str | float, probe: Probe, step: int | None = None, objective: Mapping[str, float] | None = None
) -> float:
    """τ as a number: given as one, as `q0.8`, the quantile of predicted rewards on the probe's validation set, or as
    `0.9@0.8`: the predicted reward from which on the reward exceeds 0.9 with probability 0.8.

    Of a weighted sum of heads nothing is known on the validation set: τ then must be a number. Raises `InputError` when
    it is none of these.
    """
    label = next(iter(objective)) if objective else None
    known = not objective or (len(objective) == 1 and objective[str(label)] == 1)
    if not known and not re.fullmatch(r"\s*-?[\d.]+(e-?\d+)?\s*", str(tau), re.I):
        raise InputError(f"tau is {tau!r}; for a weighted objective give a number")
    match = re.fullmatch("q" + _CHANCE, str(tau).strip())
    if match:
        return probe.card.tau(float(match[1]), label, step)
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?|-?\.\d+)@" + _CHANCE, str(tau).strip())
    if match:
        return probe.card.tau_for(float(match[1]), float(match[2]), label, step)
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


def threshold(tau: str | float, scorer: Scorer) -> float:
    """τ for a scorer, as `read_tau` reads it at the step and for the objective that it scores with."""
    return read_tau(tau, scorer.probe, scorer.known_step(scorer.probe_step), scorer.objective)
