"""A probe's card: what it was trained for, on what, how well it does; and whether a run is what it was trained for.

Comes in: `card.json` beside the weights, and a pipeline with its steps and settings. Goes out: tau, intervals,
uncertainty; warnings about a run that differs, `ProbeMismatchError` about one that can't be judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .backbones import denoiser_of
from .errors import InputError, ProbeMismatchError


@dataclass
class ProbeCard:
    """What a probe was trained for, on what, and how well it does. Travels beside the weights as `card.json`.

    `reward_scale` holds mean and standard deviation of each head's training rewards. By label and step, on the
    validation set: `quantiles` are predicted rewards at 0, 1, ..., 100 %, from which τ is taken; `residuals` the same
    of reward minus predicted reward, from which intervals are taken; `within` is the standard deviation of that error
    among the seeds of one prompt (None where the validation set has one seed for each), `ranks` the mean rank correlation
    among them, with its 95 % interval.
    """

    denoiser: str
    blocks: list[str]
    steps: int
    probe_steps: list[int]
    timesteps: dict[str, float]
    scheduler: str
    guidance_scale: float | None
    height: int | None
    width: int | None
    labels: list[str]
    variant: str = "latents"
    features: int = 16
    embedding_size: int = 0
    latent_channels: int = 0
    true_cfg_scale: float | None = None
    towers: dict[str, int] = field(default_factory=dict)  # size of the embeddings that a head's reward compares
    dropout: float = 0.1
    reward_scale: dict[str, list[float]] = field(default_factory=dict)
    quantiles: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    residuals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    within: dict[str, dict[str, float | None]] = field(default_factory=dict)
    ranks: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    version: int = 3

    @property
    def default_step(self) -> int:
        """The step nearest to a fifth of the run, as in the paper."""
        return min(self.probe_steps, key=lambda k: (abs(k - self.steps / 5), k))

    def tau(self, quantile: float, label: str | None = None, step: int | None = None) -> float:
        """The predicted reward below which `quantile` (0..1) of the validation images lie."""
        return _at(self._of(self.quantiles, label, step, "quantiles"), quantile)

    def interval(
        self, predicted: float, level: float = 0.8, label: str | None = None, step: int | None = None
    ) -> tuple[float, float]:
        """Bounds between which the reward lies with probability `level`: split conformal prediction.

        Source: Lei et al., Distribution-free predictive inference for regression, 2018.
        """
        errors = self._of(self.residuals, label, step, "residuals")
        return predicted + _at(errors, (1 - level) / 2), predicted + _at(errors, (1 + level) / 2)

    def balanced(self, label: str | None = None, step: int | None = None) -> float:
        """The predicted reward at which mistakes of a gate are fewest: the share of good images that lie below it (rewritten
        for nothing) plus that of others above it (kept). Good are rewards above the validation set's median, as for AUC
        in the paper. Rewards are taken to be predictions plus any of the residuals.
        """
        predicted = np.asarray(self._of(self.quantiles, label, step, "quantiles"))
        rewards = predicted[:, None] + np.asarray(self._of(self.residuals, label, step, "residuals"))
        good = rewards > np.median(rewards)
        needless = np.cumsum(good.sum(1)) / good.sum()  # of a gate above each predicted reward
        kept = 1 - np.cumsum((~good).sum(1)) / (~good).sum()
        place = int((needless + kept).argmin())
        return float(predicted[min(place + 1, len(predicted) - 1)])

    def tau_for(self, wanted: float, chance: float, label: str | None = None, step: int | None = None) -> float:
        """The predicted reward from which on the reward exceeds `wanted` with probability `chance` at least."""
        return wanted - _at(self._of(self.residuals, label, step, "residuals"), 1 - chance)

    def uncertainty(self, label: str | None = None, step: int | None = None) -> float | None:
        """Standard deviation of the prediction's error among seeds of one prompt; of all errors where that is unknown,
        and None where they are unknown too."""
        label, step = label or self.labels[0], step or self.default_step
        within = self.within.get(label, {}).get(str(step))
        errors = self.residuals.get(label, {}).get(str(step))
        if within is not None or not errors:
            return within
        return (_at(errors, 0.84) - _at(errors, 0.16)) / 2

    def doubt(self, label: str | None = None) -> str:
        """Why the probe can't be told from chance by its own validation figures, in words; empty when it can, or when
        the card has no figures."""
        label = label or self.labels[0]
        figure = self.figures.get(f"validation {label}", {}).get("SRCC")
        if not figure:
            return ""
        low, high, items = figure["low"], figure["high"], self.data.get("validation items")
        on = f" on {items} validation images" if items else ""
        if not low > 0:  # nan is no figure either
            return f"its rank correlation with {label}{on} is {figure['value']:.2f} [{low:.2f}, {high:.2f}], which includes chance"
        return ""

    def known_step(self, step: int, steps: int) -> int:
        """The probed step that lies as far in the run of training as `step` does in one of `steps`."""
        return min(self.probe_steps, key=lambda k: (abs(k / self.steps - step / steps), k))

    def _of(
        self, table: dict[str, dict[str, list[float]]], label: str | None, step: int | None, what: str
    ) -> list[float]:
        label, step = label or self.labels[0], step or self.default_step
        values = table.get(label, {}).get(str(step))
        if not values:
            raise InputError(f"the probe's card has no {what} of {label!r} at step {step}; train it again")
        return values


def _at(values: list[float], quantile: float) -> float:
    place = min(max(quantile, 0.0), 1.0) * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def check_card(card: ProbeCard, pipeline, *, steps: int, probe_step: int, settings: Mapping[str, Any]) -> list[str]:
    """Compare a probe's card with a run; return warnings.

    Raises `ProbeMismatchError` when backbone, blocks or steps differ: the maps would mean something else.
    """
    name = type(denoiser_of(pipeline)).__name__
    if name != card.denoiser:
        raise ProbeMismatchError(
            f"this probe was trained for {card.denoiser}, the pipeline has a {name}; leave --probe out, or give one of this --model"
        )
    have = set(dict(denoiser_of(pipeline).named_modules()))
    missing = [b for b in card.blocks if b not in have]
    if missing:
        raise ProbeMismatchError(
            f"this probe was trained on blocks {card.blocks[0]} ... {card.blocks[-1]}, "
            f"of which the pipeline lacks {missing[0]}"
        )
    trained = "/".join(str(k) for k in card.probe_steps)
    remedy = f"use --probe-step {card.default_step} --steps {card.steps} or a probe trained for your steps"
    if steps == card.steps and probe_step not in card.probe_steps:
        raise ProbeMismatchError(
            f"this probe was trained for step {trained} of {card.steps}, not step {probe_step} of {steps}; {remedy}"
        )
    # A probe of several steps knows the noise level: another number of steps passes through the levels that it knows.
    alike = probe_step * card.steps / steps
    if steps != card.steps and (
        len(card.probe_steps) < 2 or not min(card.probe_steps) - 0.5 <= alike <= max(card.probe_steps) + 0.5
    ):
        raise ProbeMismatchError(
            f"this probe was trained for step {trained} of {card.steps}, not step {probe_step} of {steps}; {remedy}"
        )
    warnings = []
    if steps != card.steps:
        warnings.append(f"the probe was trained with {card.steps} steps, this run takes {steps}")
    scheduler = type(pipeline.scheduler).__name__
    if scheduler != card.scheduler:
        warnings.append(f"the probe was trained with {card.scheduler}, this run uses {scheduler}")
    for key in ("guidance_scale", "true_cfg_scale", "height", "width"):
        trained_with, used = getattr(card, key), settings.get(key, getattr(card, key))
        if trained_with is not None and used != trained_with:
            warnings.append(f"the probe was trained with {key} {trained_with}, this run uses {used}")
    return warnings


def check_timestep(card: ProbeCard, steps: int, probe_step: int, timestep: float) -> str | None:
    """A warning when a step's timestep is not the one that the probe was trained at, or, with another number of steps
    than in training, is beyond those that it was trained at."""
    known = card.timesteps
    if steps == card.steps:
        trained = known.get(str(probe_step))
        if trained is not None and abs(trained - timestep) > 1:
            return f"step {probe_step} is at timestep {timestep:.0f} here, the probe was trained at {trained:.0f}"
        return None
    gap = (max(known.values()) - min(known.values())) / max(len(known) - 1, 1) if known else 0.0
    if known and not min(known.values()) - gap <= timestep <= max(known.values()) + gap:
        return (
            f"step {probe_step} is at timestep {timestep:.0f}, beyond those that the probe was trained at "
            f"({min(known.values()):.0f} to {max(known.values()):.0f})"
        )
    return None


def read_objective(text: str, card: ProbeCard) -> dict[str, float]:
    """What to optimise: a head's name, or several with weights such as `icons,icons-aesthetic=0.1`.

    Raises `InputError` for a head that the probe has not, or a weight that is no number.
    """
    result: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (p.strip() for p in part.partition("="))
        if name not in card.labels:
            raise InputError(f"objective {name!r} is no head of this probe; it has {', '.join(card.labels)}")
        try:
            result[name] = float(weight or 1)
        except ValueError as error:
            raise InputError(f"objective {part!r}: the weight is no number") from error
        if not math.isfinite(result[name]):
            raise InputError(f"objective {part!r}: the weight is no number")
    return result
