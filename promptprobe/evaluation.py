"""How well predicted rewards agree with rewards: SRCC, KTC, PCC and AUC with bootstrap intervals.

Source of the four figures: Diffusion Probe, arXiv:2602.23783, §6.1 (AUC against the median). Besides the paper's
figures over all images, the ranking *within* a prompt across its seeds is measured, which is what seed selection needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb, isnan

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats

from .card import ProbeCard
from .errors import InputError


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


FEWEST = 3  # images that figures can be made of


def srcc(predicted: np.ndarray, reward: np.ndarray) -> float:
    """Spearman's rank correlation; nan when all values of one are equal."""
    return float("nan") if _constant(predicted, reward) else float(stats.spearmanr(predicted, reward).statistic)


def ktc(predicted: np.ndarray, reward: np.ndarray) -> float:
    """Kendall's tau-b."""
    return float(stats.kendalltau(predicted, reward).statistic)


def pcc(predicted: np.ndarray, reward: np.ndarray) -> float:
    """Pearson's correlation; nan when all values of one are equal."""
    return float("nan") if _constant(predicted, reward) else float(stats.pearsonr(predicted, reward).statistic)


def auc(predicted: np.ndarray, reward: np.ndarray) -> float:
    """Area under the ROC curve of "reward above its median"; nan when all rewards are equal."""
    good = reward > np.median(reward)
    if not good.any():
        return float("nan")
    ranks = stats.rankdata(predicted)
    wins = ranks[good].sum() - good.sum() * (good.sum() + 1) / 2
    return float(wins / (good.sum() * (~good).sum()))


def _constant(*values: np.ndarray) -> bool:
    return any(np.ptp(v) == 0 for v in values)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"SRCC": srcc, "KTC": ktc, "PCC": pcc, "AUC": auc}


def agreement(predicted: ArrayLike, reward: ArrayLike, *, resamples: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """The four figures over all images, with percentile bootstrap intervals; nan where all values are equal.

    Raises `InputError` for fewer than three images, unequal lengths or values that are not finite.
    """
    p, r = np.asarray(predicted, float), np.asarray(reward, float)
    if len(p) != len(r) or len(p) < FEWEST:
        raise InputError(
            f"{len(p)} predictions and {len(r)} rewards; give at least {FEWEST} of each, as many of one as of the other"
        )
    if not (np.isfinite(p).all() and np.isfinite(r).all()):
        raise InputError("a prediction or reward is not a finite number")
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(p), size=len(p)) for _ in range(resamples)]
    return {name: _interval(f(p, r), [f(p[d], r[d]) for d in draws]) for name, f in METRICS.items()}


def within_prompts(
    prompts: Sequence[str], predicted: ArrayLike, reward: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Figure | None:
    """Mean Spearman correlation across a prompt's seeds; prompts are resampled. None when no prompt has three seeds.

    A prompt whose seeds all got the same reward has no ranking and is left out.
    """
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)
    p, r = np.asarray(predicted, float), np.asarray(reward, float)
    values = np.array(
        [srcc(p[g], r[g]) for g in groups.values() if len(g) >= 3 and np.ptp(r[g]) > 0 and np.ptp(p[g]) > 0]
    )
    if not len(values):
        return None
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    return _interval(float(values.mean()), means)


def balanced(reward: ArrayLike, *, bins: int = 10, seed: int = 0) -> np.ndarray:
    """Indices of a subset in which rewards are spread evenly over their range (as the paper's test set was)."""
    r = np.asarray(reward, float)
    low, high = np.quantile(r, [0.01, 0.99])
    which = np.clip(((r - low) / max(high - low, 1e-9) * bins).astype(int), 0, bins - 1)
    sizes = np.bincount(which, minlength=bins)
    keep = max(int(np.quantile(sizes[sizes > 0], 0.3)), 1)
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(which == b))[:keep] for b in range(bins)]
    return np.sort(np.concatenate(parts))


def mean_interval(values: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Figure:
    """A mean with its bootstrap interval."""
    v = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    return _interval(float(v.mean()), [v[rng.integers(len(v), size=len(v))].mean() for _ in range(resamples)])


def evaluate_probe(
    predicted: dict[str, np.ndarray], rewards: dict[str, torch.Tensor], prompts: Sequence[str], resamples: int = 1000
) -> dict[str, dict]:
    """Per head: `natural` and score-`balanced` agreement, and `within` a prompt across seeds where there are seeds.

    `balanced` is None where too few images are left of it. Raises `InputError` for fewer than three images.
    """
    if len(prompts) < FEWEST:
        raise InputError(
            f"the test data holds {len(prompts)} of the {FEWEST} images that figures take at least; "
            "`promptprobe collect` more prompts, and name all data sets together"
        )
    result: dict[str, dict] = {}
    for name, scores in predicted.items():
        reward = rewards[name].numpy()
        even = balanced(reward)
        within = within_prompts(prompts, scores, reward, resamples=resamples)
        result[name] = {
            "natural": as_dict(agreement(scores, reward, resamples=resamples)),
            "balanced": as_dict(agreement(scores[even], reward[even], resamples=resamples))
            if len(even) >= FEWEST
            else None,
            "balanced items": len(even),
            "within": as_dict({"SRCC": within})["SRCC"] if within else None,
        }
    return result


def coverage(card: ProbeCard, label: str, step: int, predicted: ArrayLike, reward: ArrayLike) -> dict[str, float]:
    """How often the reward lies in the probe's interval of each level: calibrated when close to the level itself."""
    p, r = np.asarray(predicted, float), np.asarray(reward, float)
    result = {}
    for level in (0.5, 0.8, 0.9):
        low, high = card.interval(0.0, level, label, step)
        result[f"{level:.0%}"] = round(float(((r - p >= low) & (r - p <= high)).mean()), 4)
    return result


def as_dict(figures: dict[str, Figure]) -> dict[str, dict[str, float | None]]:
    """Figures as plain values, rounded; None for what is not a number."""
    return {name: {k: None if isnan(v) else round(v, 4) for k, v in asdict(f).items()} for name, f in figures.items()}


def _interval(value: float, resampled: Sequence[float]) -> Figure:
    known = np.asarray([v for v in resampled if not isnan(v)] or [np.nan], float)
    low, high = np.quantile(known, [0.025, 0.975])
    return Figure(value, float(low), float(high))


def best_of_n(rewards: ArrayLike, most: int = 60) -> np.ndarray:
    """What the best of 1, 2, ... of a prompt's images gains over one of them, `[n, prompts]`, from the rewards of images
    made in full, `[prompts, seeds]`: exact, over all choices of n seeds, of at most `most`."""
    values = np.sort(np.asarray(rewards, float), 1)
    seeds = values.shape[1]
    weights = [[comb(i, n - 1) / comb(seeds, n) for i in range(seeds)] for n in range(1, min(seeds, most) + 1)]
    return np.array(weights) @ values.T - values.mean(1)


def equal_images(gain: float, curve: ArrayLike) -> float:
    """How many images made in full gain as much when the best is kept; `curve` is the mean gain of the best of 1, 2, ....

    Divided by the images' worth of compute that was spent, this is *equal compute*: above 1, a search is worth it. A gain
    beyond the curve counts as its end.
    """
    known = np.asarray(curve, float)
    return float(np.interp(gain, known, np.arange(1, len(known) + 1)))
