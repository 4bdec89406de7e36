"""Which trajectories of a group are worth finishing: a plain function, for any trainer, and a judge's running correction.

Comes in: what was predicted of each trajectory half-way. Goes out: which to keep. Source: Diffusion Probe,
arXiv:2602.23783, §3.4: early trajectories are parted into a positive and a negative set, and no others are rolled out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import InputError, ProbeMismatchError

WAYS = ("tails", "random", "all")
WINDOW = 384  # finished trajectories that the correction is fitted to
ENOUGH = 48


def keep(
    groups: Sequence[Hashable],
    scores: Any = None,
    *,
    share: float = 0.5,
    way: str = "tails",
    most_groups: int | None = None,
    least_spread: float = 0.0,
    seed: int = 0,
    latents: torch.Tensor | None = None,
    maps: torch.Tensor | None = None,
    judge: Callable[[Any], Any] | None = None,
) -> list[int]:
    """The numbers of the trajectories to finish and learn from, in order; the others can be given up.

    `groups[i]` says which group trajectory i is of: its prompt, as trainers repeat it. `scores` `[n]` are predicted rewards, in any
    unit; without them `judge` makes them of `latents` or `maps` (`[n, ...]`, whatever is given). Of each group the best and the worst
    halves of a `share` are kept (`tails`), or as many at `random`, or `all`. Only the `most_groups` whose scores
    differ most are kept, and none whose scores' standard deviation is below `least_spread`. A score that is no number ranks in the middle.
    Raises `InputError` for groups of one and when nothing would be kept.

        rows = keep(prompts, judge=lambda x: my_probe(x), latents=latents)   # after 2 of 6 steps
    """
    if way not in WAYS:
        raise InputError(f"way is {way!r}; it must be one of {', '.join(WAYS)}")
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; it must be above 0 and at most 1")
    values = _scores(len(groups), scores, latents, maps, judge, way)
    places: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        places.setdefault(group, []).append(i)
    if not places:
        raise InputError("there are no trajectories to choose from; give at least one group")
    single = next((g for g, at in places.items() if len(at) < 2), None)
    if single is not None:
        raise InputError(
            f"the group {single!r:.60} has one trajectory, and nothing to compare it with; give at least two"
        )
    for at in places.values():  # what is no number lies in the middle of its group
        own = values[at]
        known = own[np.isfinite(own)]
        values[at] = np.where(np.isfinite(own), own, np.median(known) if len(known) else 0.0)
    spreads = {g: float(np.std(values[at])) for g, at in places.items()}
    wanted = [g for g in places if spreads[g] >= least_spread or way != "tails"]
    if not wanted:
        raise InputError(
            f"the filter keeps nothing: predicted scores of all {len(places)} groups differ by less than {least_spread:g} "
            f"(at most {max(spreads.values()):.3g}); lower least_spread"
        )
    rng = np.random.default_rng(seed)
    if most_groups is not None and most_groups < len(wanted):
        order = (
            rng.permutation(len(wanted)) if way != "tails" else np.argsort([-spreads[g] for g in wanted], kind="stable")
        )
        chosen = {wanted[i] for i in order[:most_groups]}
        wanted = [g for g in wanted if g in chosen]
    kept: list[int] = []
    for group in wanted:
        own_rows = np.array(places[group])
        count = len(own_rows) if way == "all" else min(len(own_rows), max(2, 2 * round(share * len(own_rows) / 2)))
        if way == "tails":
            ranked = own_rows[np.argsort(values[own_rows], kind="stable")]
            chosen_rows = np.concatenate([ranked[: count // 2], ranked[len(ranked) - (count - count // 2) :]])
        else:
            chosen_rows = rng.permutation(own_rows)[:count]
        kept += chosen_rows.tolist()
    return sorted(kept)


def _scores(n: int, scores: Any, latents: Any, maps: Any, judge: Any, way: str) -> np.ndarray:
    """One number for each trajectory."""
    if scores is None and judge is not None:
        seen = latents if maps is None else maps
        if seen is None:
            raise InputError("a judge is given and nothing to judge; give latents or maps")
        try:
            scores = judge(seen)
        except (RuntimeError, ValueError) as error:
            raise ProbeMismatchError(
                f"the judge can't read what it was given, of shape {tuple(seen.shape)} ({str(error).splitlines()[0]:.120}); "
                "is it a probe of another model?"
            ) from error
    if scores is None:
        if way == "tails":
            raise InputError("there is nothing to choose by; give scores, or a judge with latents or maps")
        return np.zeros(n)
    values = np.array(torch.as_tensor(scores).detach().double().cpu())
    if values.shape != (n,):
        raise InputError(f"scores have shape {values.shape} for {n} trajectories; give one number for each")
    return values


class Correction:
    """A judge's views of finished trajectories beside their rewards: a ridge regression on the last `WINDOW` of them, within
    groups, so that the judge goes with the policy as it moves. Until there are `ENOUGH`, the judge is believed."""

    def __init__(self) -> None:
        self.views = torch.empty(0, 0)  # centred in their groups: [trajectories, views]
        self.rewards = torch.empty(0)

    def __call__(self, views: torch.Tensor, groups: Sequence[Hashable]) -> torch.Tensor:
        """Scores `[n]` of views `[n, views]`; comparable within a group, in the reward's unit."""
        x = centred(views.nan_to_num(), groups)
        weights = self.weights()
        return x[:, 0] if weights is None else x @ weights

    def weights(self) -> torch.Tensor | None:
        """What each view counts; None while too little is known."""
        if len(self.rewards) < ENOUGH:
            return None
        x, y = self.views.double(), self.rewards.double()
        scale = x.std(0).clamp_min(1e-6)
        x = x / scale
        fitted = torch.linalg.solve(x.T @ x + 10.0 * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
        return (fitted / scale).float()

    def learn(self, views: torch.Tensor, rewards: torch.Tensor, groups: Sequence[Hashable]) -> None:
        """Take finished trajectories into account."""
        x, y = centred(views.nan_to_num(), groups), centred(rewards[:, None], groups)[:, 0]
        if self.views.shape[1] != x.shape[1]:
            self.views, self.rewards = x[:0], y[:0]
        self.views, self.rewards = torch.cat([self.views, x])[-WINDOW:], torch.cat([self.rewards, y])[-WINDOW:]


def centred(values: torch.Tensor, groups: Sequence[Hashable]) -> torch.Tensor:
    """Values `[n, columns]` less the mean of their group."""
    made = values.float().clone()
    for group in dict.fromkeys(groups):
        at = [i for i, g in enumerate(groups) if g == group]
        made[at] -= made[at].mean(0)
    return made


def within_groups(one: torch.Tensor, other: torch.Tensor, groups: Sequence[Hashable]) -> float:
    """Mean rank correlation within the groups; nan where none varies."""
    found = []
    for group in dict.fromkeys(groups):
        at = [i for i, g in enumerate(groups) if g == group]
        value = spearman(one[at].tolist(), other[at].tolist())
        found += [] if math.isnan(value) else [value]
    return float(np.mean(found)) if found else math.nan


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation; nan where one side doesn't vary."""
    from scipy.stats import spearmanr

    if len(one) < 3 or len(set(one)) < 2 or len(set(other)) < 2:
        return math.nan
    return float(spearmanr(one, other).statistic)
