"""The judge `probe`: a trained probe, and what its card knows of its errors.

Source: Diffusion Probe, arXiv:2602.23783, §3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..card import check_card, check_timestep
from ..errors import InputError, ModelError, ProbeMismatchError
from ..observation import Observation
from ..probe import Probe, probe_digest
from ..sources import source_of
from ..worlds import DEFAULT, world_of
from .base import Judge, Judgement, Needs, by_row


class ProbeJudge(Judge):
    """A probe as a judge. `objective` weighs its heads (default: the first alone); the head of the largest weight gives
    uncertainty and the label."""

    name = "probe"
    calibrated = True

    def __init__(self, probe: Probe, objective: Mapping[str, float] | None = None):
        self.probe = probe
        self.weights = dict(objective or {probe.card.labels[0]: 1.0})
        self.label = max(self.weights, key=lambda label: abs(self.weights[label]))
        self.needs = Needs(tuple(probe.card.blocks), clean=probe.card.variant == "latents")

    @property
    def objective(self) -> dict[str, float]:
        return dict(self.weights)

    @property
    def digest(self) -> str:
        return probe_digest(self.probe)

    def judge(self, seen: Observation) -> list[Judgement]:
        card = self.probe.card
        predicted = self.probe.predict(seen.only(card.blocks), self.weights)
        return by_row(predicted, card.uncertainty(self.label, card.known_step(seen.step, seen.steps)))

    def looks(self, steps: int) -> list[int]:
        card = self.probe.card
        return sorted({max(1, round(k * steps / card.steps)) for k in card.probe_steps})

    def check(
        self, pipeline: Any, *, steps: int, probe_step: int, early_step: int | None, settings: Mapping[str, Any]
    ) -> list[str]:
        card = self.probe.card
        warnings = check_card(card, pipeline, steps=steps, probe_step=probe_step, settings=settings)
        if early_step is not None and not (
            early_step < probe_step and (early_step in card.probe_steps or steps != card.steps)
        ):
            earlier = ", ".join(str(k) for k in card.probe_steps if k < probe_step) or "none"
            raise ProbeMismatchError(
                f"early step is {early_step}; this probe has these steps before step {probe_step}: {earlier}"
            )
        return warnings

    def ranks_seeds(self, step: int, steps: int) -> float | None:
        card = self.probe.card
        ranked = card.ranks.get(self.label, {}).get(str(card.known_step(step, steps)))
        return ranked[0] if ranked else None

    def warning(self, seen: Observation) -> str | None:
        return check_timestep(self.probe.card, seen.steps, seen.step, float(seen.timesteps[0]))

    def quantile(self, share: float, step: int, steps: int) -> float:
        return self.probe.card.tau(share, self._single(f"q{share:g}"), self.probe.card.known_step(step, steps))

    def balanced(self, step: int, steps: int) -> float:
        return self.probe.card.balanced(self._single("balanced"), self.probe.card.known_step(step, steps))

    def surely(self, wanted: float, chance: float, step: int, steps: int) -> float:
        label = self._single(f"{wanted:g}@{chance:g}")
        return self.probe.card.tau_for(wanted, chance, label, self.probe.card.known_step(step, steps))

    def _single(self, tau: str) -> str:
        """The head that is predicted; of a weighted sum of heads nothing is known on the validation set."""
        if self.weights != {self.label: 1.0}:
            raise InputError(f"tau is {tau!r}; for a weighted objective give a number")
        return self.label


def load_probe(probe: str | Path | None, model: str | Path = DEFAULT) -> Probe:
    """The probe of a folder, or where `probe` is None that of `model`, if it is a built-in world.

    Raises `ModelError` when another pipeline is used without a probe.
    """
    if probe is None:
        world = world_of(model)
        if world is None or world.probe is None:
            source_of(model)
            raise ModelError(f"--model {str(model)!r} needs a probe of its own: give --probe FOLDER; "
                             "`promptprobe collect` and `promptprobe train` make one; --judge auto goes without")  # fmt: skip
        probe = world.probe
    return Probe.load(probe)
