"""Finished trajectories without their tensors, and the figures of an iteration.

Comes in: batches that were measured. Goes out: what processes tell each other, and a row of the curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .keeping import centred, within_groups
from .rollout import Batch


@dataclass
class Finished:
    """What a process tells the others of its finished trajectories; `scores` are the corrected views."""

    groups: list[int]
    rewards: torch.Tensor
    views: torch.Tensor | None
    scores: torch.Tensor | None

    @classmethod
    def of(cls, done: Sequence[Batch], scores: torch.Tensor | None) -> Finished:
        views = [b.predicted for b in done if b.predicted is not None]
        groups = [g for b in done for g in b.groups]
        return cls(groups, torch.cat([b.rewards for b in done]), torch.cat(views) if views else None, scores)

    @classmethod
    def joined(cls, parts: Sequence[Finished]) -> Finished:
        def all_of(name: str) -> torch.Tensor | None:
            values = [getattr(p, name) for p in parts]
            return None if values[0] is None else torch.cat(values)

        return cls(
            [g for p in parts for g in p.groups],
            torch.cat([p.rewards for p in parts]),
            all_of("views"),
            all_of("scores"),
        )


def figures_of(done: Finished, margin: float) -> dict[str, float]:
    """Mean reward, its spread within groups, the share of valid samples, and how well the judge foresaw the rewards."""
    away = centred(done.rewards[:, None], done.groups)[:, 0]
    within = [
        float(away[[i for i, g in enumerate(done.groups) if g == k]].square().mean().sqrt())
        for k in dict.fromkeys(done.groups)
    ]
    row = {
        "reward": float(done.rewards.mean()), "spread": float(np.mean(within)),
        "valid": float((away.abs() > max(margin, 1e-6)).float().mean()),
    }  # fmt: skip
    if done.scores is not None and done.views is not None:
        row["judge"] = within_groups(done.scores, done.rewards, done.groups)
        row["judge_uncorrected"] = within_groups(done.views[:, 0], done.rewards, done.groups)
    return row
